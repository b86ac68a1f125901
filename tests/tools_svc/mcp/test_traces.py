"""A call that goes on to an MCP server is one trace, from our caller to the tool behind the server."""

from __future__ import annotations

import asyncio
from pathlib import Path

from matrices.evidence.traces import Span, read_traces
from tests.limits import HANG_S
from tests.tools_svc.mcp.test_service import served
from treni.channels import open_channel
from treni.v1 import tools_pb2, tools_pb2_grpc

TRACE = "0af7651916cd43dd8448eb211c80319c"
CALLED = (("traceparent", f"00-{TRACE}-b7ad6b7169203331-01"),)


def test_from_the_caller_to_the_tool_behind_the_server(tmp_path: Path) -> None:
    there, here, traces = tmp_path / "there", tmp_path / "here", tmp_path / "traces"
    there.mkdir()
    here.mkdir()

    async def ask(address: str) -> None:
        request = tools_pb2.CallToolRequest(
            name="treni-route_calculator", arguments_json='{"expression": "6 * 7"}'
        )
        async with open_channel(address) as channel:
            await tools_pb2_grpc.ToolServiceStub(channel).Call(request, metadata=CALLED, timeout=HANG_S)

    keep = ("--trace", str(traces))
    with (
        served(there, "--mcp", "0", *keep) as (behind, ready),
        served(here, "--tools", f"mcp:{ready['mcp']}", *keep) as (before, ready),
    ):
        asyncio.run(ask(ready["address"]))
    spans = {span.id: span for span in read_traces(traces).by_id[TRACE].spans}
    (last,) = (span for span in spans.values() if span.name == "tool calculator")
    way: list[Span] = [last]
    while way[-1].parent in spans:
        way.append(spans[way[-1].parent])
    names = [span.name for span in reversed(way)]
    assert names[:2] == ["treni.v1.ToolService/Call", "tool treni-route_calculator"]
    assert len([name for name in names if "tools/call" in name]) == 2  # the SDK's own, on either side
    assert behind.pid != before.pid

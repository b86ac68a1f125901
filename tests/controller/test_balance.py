"""Tool services behind one port: all attempts of a call reach the one that may hold its effect."""

from __future__ import annotations

from collections.abc import Sequence

from controller.balance import BalancedTools
from controller.deadline import Deadline
from controller.ports import AttemptKey, Call
from treni.v1 import common_pb2, tools_pb2


class Noting:
    """A port that notes which attempts reach it."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, int]] = []

    async def specs(self, *, timeout_s: float) -> Sequence[common_pb2.ToolSpec]:
        return [common_pb2.ToolSpec(name="only")]

    async def call(self, request: tools_pb2.CallToolRequest, call: Call) -> tools_pb2.CallToolResponse:
        self.seen.append((call.key.request_index, call.key.attempt))
        return tools_pb2.CallToolResponse()


async def test_each_call_goes_where_its_request_chooses_however_often_it_is_tried() -> None:
    ports = [Noting(), Noting(), Noting()]
    tools = BalancedTools(ports, lambda key: key.request_index % 3)
    for request in range(7):
        for attempt in range(2):
            key = AttemptKey(hop="tool", run_id="r", request_index=request, call_index=0, attempt=attempt)
            await tools.call(tools_pb2.CallToolRequest(), Call(key=key, deadline=Deadline.after(60.0)))
    assert [sorted({index for index, _ in port.seen}) for port in ports] == [[0, 3, 6], [1, 4], [2, 5]]
    assert all(port.seen == [(index, n) for index, _ in port.seen[::2] for n in range(2)] for port in ports)
    assert [spec.name for spec in await tools.specs(timeout_s=60.0)] == ["only"]

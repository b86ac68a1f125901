"""What is counted of tool calls: those that run, wait, are refused, and are answered from memory."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.limits import HANG_S
from tools_svc.pool import BoundedPool
from tools_svc.protocol import Caller
from tools_svc.server import call_tool
from treni import metrics
from treni.errors import TreniError, invalid_argument
from treni.metrics import Page
from treni.v1.tools_pb2 import CallToolRequest, CallToolResponse


class Gate:
    """A registry of one tool that stands until it is let go."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.replayed = False

    def __contains__(self, name: str) -> bool:
        return name == "gate"

    def call(self, request: CallToolRequest, caller: Caller | None = None) -> CallToolResponse:
        if request.name != "gate":
            raise invalid_argument("tool_unknown", expected="gate", got=request.name)
        assert self.go.wait(HANG_S)
        return CallToolResponse(result_json="{}", tool_s=0.25, replayed=self.replayed)


@pytest.fixture
def page() -> Iterator[Page]:
    yield metrics.switch_on()
    metrics.switch_off()


async def settled(page: Page, name: str, wanted: float) -> None:
    async with asyncio.timeout(HANG_S):
        while page.registry.get_sample_value(name, {"tool": "gate"}) != wanted:  # noqa: ASYNC110
            await asyncio.sleep(0.001)


async def test_calls_that_wait_run_end_and_are_refused(page: Page) -> None:
    registry: Any = Gate()
    pool = BoundedPool(workers=1, queue=1)

    def call(name: str = "gate") -> asyncio.Task[CallToolResponse]:
        return asyncio.create_task(call_tool(registry, pool, CallToolRequest(name=name), deadline_s=None))

    value = page.registry.get_sample_value
    first = call()
    await settled(page, "treni_tools_running", 1)
    second = call()
    await settled(page, "treni_tools_in_flight", 2)
    with pytest.raises(TreniError, match="at most 2 calls"):
        await call()
    assert value("treni_tools_running", {"tool": "gate"}) == 1
    registry.replayed = True
    registry.go.set()
    await asyncio.gather(first, second)
    with pytest.raises(TreniError):
        await call("gone")
    await pool.close()
    assert (
        value("treni_tools_in_flight", {"tool": "gate"})
        == value("treni_tools_running", {"tool": "gate"})
        == 0
    )
    assert value("treni_tools_calls_total", {"tool": "gate", "outcome": "ok"}) == 2
    assert value("treni_tools_calls_total", {"tool": "gate", "outcome": "refused"}) == 1
    assert value("treni_tools_calls_total", {"tool": "unknown", "outcome": "refused"}) == 1
    assert value("treni_tools_call_seconds_sum", {"tool": "gate"}) == 0.5
    assert value("treni_tools_replayed_total", {"tool": "gate"}) == 2

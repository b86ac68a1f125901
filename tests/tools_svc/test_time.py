"""A tool's time is its caller's: it refuses in time to be heard, stops when nobody waits, and holds up no other."""

from __future__ import annotations

import asyncio
import json
import math
import sqlite3
import threading
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, closing
from typing import Any

import pytest

from controller.deadline import Deadline
from controller.ports import AttemptKey, Call, ToolPort
from controller.remote import RemoteTools
from runtime_svc.internal import PunctualTools, RegistryTools
from tests.limits import HANG_S, longer_and_longer
from tools_svc import facts_sql
from tools_svc.ledger_append import read_effects
from tools_svc.pool import BoundedPool
from tools_svc.protocol import Caller, CallInfo, Tool, ToolOutput, ToolsConfig, make_spec
from tools_svc.registry import Registry, build_registry
from tools_svc.server import start
from treni.channels import open_channel
from treni.errors import Code, TreniError
from treni.limits import TOOL_RESULT
from treni.v1.tools_pb2 import CallToolRequest, CallToolResponse

SLOW = json.dumps({"query": "SELECT count(*) FROM cities a, cities b, cities c, cities d, cities e"})
FOREVER_S = 1e6
ARMS = ("internal", "external")


@asynccontextmanager
async def tools_of(arm: str, config: ToolsConfig) -> AsyncIterator[ToolPort]:
    """The tools as an arm has them."""
    if arm == "external":
        server = await start(config)
        async with open_channel(server.address) as channel:
            yield RemoteTools(channel)
        await server.stop()
    else:
        with build_registry(config) as registry:
            pool = BoundedPool(workers=4, queue=60)
            yield PunctualTools(RegistryTools(registry, pool))
            await pool.close()


async def call(tools: ToolPort, name: str, arguments_json: str, timeout_s: float) -> CallToolResponse:
    key = AttemptKey(hop="tool", run_id="r", request_index=0, call_index=0, attempt=0)
    request = CallToolRequest(name=name, arguments_json=arguments_json)
    return await tools.call(request, Call(key=key, deadline=Deadline.after(timeout_s)))


@pytest.fixture
def began(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Queries that only their caller can end; set once one has begun."""
    event, made = threading.Event(), facts_sql._Clock.__init__

    def watched(self: facts_sql._Clock, caller: Caller) -> None:
        made(self, caller)
        event.set()

    monkeypatch.setattr(facts_sql, "TIME_LIMIT_S", math.inf)
    monkeypatch.setattr(facts_sql._Clock, "__init__", watched)
    return event


@pytest.mark.parametrize("arm", ARMS)
async def test_a_slow_query_is_refused_while_its_caller_still_waits(
    arm: str, config: ToolsConfig, began: threading.Event
) -> None:
    async with tools_of(arm, config) as tools:
        for timeout_s in longer_and_longer(0.25):
            with pytest.raises(TreniError) as caught:
                await call(tools, "facts_sql", SLOW, timeout_s)
            if caught.value.code is not Code.DEADLINE_EXCEEDED:  # a machine too slow for that deadline
                break
    error = caught.value
    assert (error.code, error.kind, error.definite) == (Code.INVALID_ARGUMENT, "sql_too_slow", True)
    assert "its caller waits no longer" in error.expected


@pytest.mark.parametrize("arm", ARMS)
async def test_a_query_whose_caller_has_left_is_stopped(
    arm: str, config: ToolsConfig, began: threading.Event
) -> None:
    async with tools_of(arm, config) as tools:
        left = asyncio.ensure_future(call(tools, "facts_sql", SLOW, FOREVER_S))
        assert await asyncio.to_thread(began.wait, HANG_S)
        left.cancel()
        with pytest.raises(asyncio.CancelledError):
            await left
    # Closing the tools waits for what runs: with a query that went on, this would not be reached.


@pytest.mark.parametrize("arm", ARMS)
async def test_calls_of_one_tool_that_fill_its_threads_and_queue_hold_up_no_other(
    arm: str, config: ToolsConfig, began: threading.Event
) -> None:
    async with tools_of(arm, config) as tools:
        slow = [asyncio.ensure_future(call(tools, "facts_sql", SLOW, FOREVER_S)) for _ in range(100)]
        refused = asyncio.as_completed(slow)
        for _ in range(100 - 64):
            with pytest.raises(TreniError, match="at most 64 calls of one tool at once") as caught:
                await next(refused)
            assert (caught.value.code, caught.value.definite) == (Code.RESOURCE_EXHAUSTED, True)
        for name, arguments in (
            ("calculator", '{"expression": "6*7"}'),
            ("notes_search", '{"query": "heron"}'),
            ("ledger_append", '{"account": "rent", "amount": 1}'),
        ):
            assert (await call(tools, name, arguments, HANG_S)).result_json
        for each in slow:
            each.cancel()
        await asyncio.gather(*slow, return_exceptions=True)


@pytest.mark.parametrize("arm", ARMS)
async def test_a_locked_ledger_is_said_so_while_the_caller_still_waits(arm: str, config: ToolsConfig) -> None:
    arguments = '{"account": "rent", "amount": 1}'
    async with tools_of(arm, config) as tools:
        with closing(sqlite3.connect(config.ledger_path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            for timeout_s in longer_and_longer(0.25):
                both = [
                    asyncio.ensure_future(call(tools, "ledger_append", arguments, timeout_s)) for _ in "ab"
                ]
                errors = await asyncio.gather(*both, return_exceptions=True)
                if all(isinstance(each, TreniError) and each.kind == "ledger_locked" for each in errors):
                    break
            other.execute("ROLLBACK")
        assert all(each.definite for each in errors if isinstance(each, TreniError))
        await call(tools, "ledger_append", arguments, HANG_S)
    assert len(read_effects(config.ledger_path)) == 1


def test_a_caller_waits_until_the_deadline_or_until_he_leaves() -> None:
    patient = Caller()
    assert (patient.gone, patient.remaining_s(), patient.work_s()) == (False, float("inf"), float("inf"))
    patient.leave()
    assert (patient.gone, patient.remaining_s()) == (True, 0.0)
    late = Caller(0.0)
    assert (late.gone, late.work_s()) == (True, 0.0)
    near = Caller(HANG_S)
    assert 0 < near.work_s() < near.remaining_s() <= HANG_S
    assert not near.gone


class Talkative(Tool):
    """Answers at the length that it is asked for, and counts how often it did."""

    def __init__(self, *, has_side_effects: bool) -> None:
        properties = {"size": {"type": "integer"}}
        self._spec = make_spec(
            name="talk",
            description="Talks.",
            properties=properties,
            required=("size",),
            has_side_effects=has_side_effects,
        )
        self.ran = 0

    @property
    def spec(self) -> Any:
        return self._spec

    def run(self, arguments: Mapping[str, Any], info: CallInfo) -> ToolOutput:
        self.ran += 1
        return ToolOutput(result={"text": "x" * arguments["size"]})


@pytest.mark.parametrize(
    ("has_side_effects", "code", "definite"),
    [(False, Code.OUT_OF_RANGE, True), (True, Code.DATA_LOSS, False)],
)
def test_a_result_that_no_conversation_can_hold_is_told_by_what_the_tool_did(
    has_side_effects: bool, code: Code, definite: bool
) -> None:
    tool = Talkative(has_side_effects=has_side_effects)
    registry = Registry([tool])
    fits = TOOL_RESULT.most - len('{"text": ""}')
    assert registry.call(CallToolRequest(name="talk", arguments_json=f'{{"size": {fits}}}')).result_json
    with pytest.raises(TreniError) as caught:
        registry.call(CallToolRequest(name="talk", arguments_json=f'{{"size": {fits + 1}}}'))
    error = caught.value
    assert (error.code, error.kind, error.definite) == (code, "tool_result_too_large", definite)
    assert str(TOOL_RESULT.most) in error.expected
    assert tool.ran == 2

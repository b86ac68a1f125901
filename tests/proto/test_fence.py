"""Calls that are meant for another session of a server: refused before anything is done, in both directions."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from controller.deadline import Deadline
from controller.ports import AttemptKey, Call
from controller.remote import RemoteModel, RemoteTools
from runtime_svc.core import InferenceCore
from runtime_svc.engine import Engine
from runtime_svc.server import start as start_runtime
from tests.limits import HANG_S
from tests.proto.roles import MODEL
from tools_svc.ledger_append import read_effects
from tools_svc.protocol import ToolsConfig
from tools_svc.server import start as start_tools
from treni.channels import open_channel
from treni.errors import Code, TreniError
from treni.fence import STALE, fenced
from treni.v1 import common_pb2, inference_pb2, tools_pb2

MINE, OTHER = "0123456789abcdef", "fedcba9876543210"


def call_on(hop: str) -> Call:
    key = AttemptKey(hop=hop, run_id="p00/0/external/0", request_index=0, call_index=0, attempt=0)
    return Call(key=key, deadline=Deadline.after(HANG_S))


def entry(key: str) -> tools_pb2.CallToolRequest:
    return tools_pb2.CallToolRequest(
        name="ledger_append",
        arguments_json='{"account": "rent", "amount": 3}',
        run_id="r",
        task_id="t",
        idempotency_key=key,
    )


@asynccontextmanager
async def tools(ledger: Path, mark: str) -> AsyncIterator[grpc.aio.Channel]:
    """A channel to a server of tools with that mark, as a testbed has it."""
    server = await start_tools(ToolsConfig(ledger_path=ledger, session=mark), interceptors=fenced(mark))
    try:
        async with open_channel(server.address) as channel:
            yield channel
    finally:
        await server.stop(grace_s=0)


def refused_as_stale(error: TreniError, hop: str) -> None:
    assert (error.code, error.kind, error.definite) == (Code.FAILED_PRECONDITION, STALE, True)
    assert (error.hop, error.foreign) == (hop, False)


async def test_a_server_does_what_its_own_session_asks_for(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.sqlite"
    async with tools(ledger, MINE) as channel:
        port = RemoteTools(channel, fence=MINE)
        assert await port.specs(timeout_s=HANG_S)
        await port.call(entry("one"), call_on("tool"))
    assert [row.idempotency_key for row in read_effects(ledger)] == ["one"]


@pytest.mark.parametrize("mark", [OTHER, ""])
async def test_a_server_refuses_every_other_caller_and_nothing_happens(tmp_path: Path, mark: str) -> None:
    ledger = tmp_path / "ledger.sqlite"
    async with tools(ledger, MINE) as channel:
        port = RemoteTools(channel, fence=mark)
        with pytest.raises(TreniError) as caught:
            await port.specs(timeout_s=HANG_S)
        refused_as_stale(caught.value, "tool")
        with pytest.raises(TreniError) as caught:
            await port.call(entry("one"), call_on("tool"))
        refused_as_stale(caught.value, "tool")
        assert mark in caught.value.got
        assert MINE in caught.value.expected
    assert read_effects(ledger) == []


async def test_whether_a_server_is_there_anybody_may_ask(tmp_path: Path) -> None:
    async with tools(tmp_path / "ledger.sqlite", MINE) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        told = await health.Check(health_pb2.HealthCheckRequest(), timeout=HANG_S)
    assert told.status == health_pb2.HealthCheckResponse.SERVING


@pytest.mark.parametrize("mark", [OTHER, ""])
async def test_a_server_outside_of_a_testbed_has_no_session_and_asks_for_none(
    tmp_path: Path, mark: str
) -> None:
    ledger = tmp_path / "ledger.sqlite"
    async with tools(ledger, "") as channel:
        await RemoteTools(channel, fence=mark).call(entry("one"), call_on("tool"))
    assert len(read_effects(ledger)) == 1


async def test_a_model_of_another_session_writes_no_token() -> None:
    request = inference_pb2.GenerateRequest(messages=[common_pb2.Message(role="user", content="hello")])
    async with InferenceCore(Engine.load(MODEL)) as core:
        server = await start_runtime(core, interceptors=fenced(MINE))
        async with open_channel(server.address) as channel:
            strayed = RemoteModel(channel, fence=OTHER).generate(request, call_on("model"))
            with pytest.raises(TreniError) as caught:
                await anext(strayed)
            refused_as_stale(caught.value, "model")
            meant = RemoteModel(channel, fence=MINE).generate(request, call_on("model"))
            chunks = [chunk async for chunk in meant]
        await server.stop(grace_s=0)
    assert chunks[-1].HasField("finish")

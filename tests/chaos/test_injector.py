"""The injector at a real gRPC server, and in front of tools in the loop's own process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import grpc
import pytest

from chaos.deliveries import read_deliveries
from chaos.faults import Fault, FaultKind, Latency, Reset, Stall, Status
from chaos.injector import FaultInjector, FaultyTools
from runtime_svc.internal import RegistryTools
from tests.limits import HANG_S, longer_and_longer
from tools_svc.pool import BoundedPool
from tools_svc.protocol import ToolsConfig
from tools_svc.registry import build_registry
from tools_svc.server import start as start_tools
from treni import metadata
from treni.errors import TreniError, from_rpc_error
from treni.v1 import inference_pb2, inference_pb2_grpc, tools_pb2, tools_pb2_grpc


def encoded(kind: FaultKind, site: str = "tool", hop: str = "tool") -> str:
    return Fault(id=f"f:{kind.name}", site=site, hop=hop, kind=kind).encode()


@pytest.fixture
async def channel(upstream):
    async with grpc.aio.insecure_channel(upstream.address, options=list(metadata.CHANNEL_OPTIONS)) as direct:
        yield direct


async def call(
    channel: grpc.aio.Channel, fault: str | None, timeout_s: float = HANG_S
) -> tools_pb2.CallToolResponse:
    pairs = (
        () if fault is None else ((metadata.FAULT, fault), (metadata.RUN_ID, "r"), (metadata.ATTEMPT, "1"))
    )
    return await tools_pb2_grpc.ToolServiceStub(channel).Call(
        tools_pb2.CallToolRequest(idempotency_key="k"), timeout=timeout_s, metadata=pairs
    )


async def failure(channel: grpc.aio.Channel, fault: str, timeout_s: float = HANG_S) -> TreniError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(channel, fault, timeout_s)
    return from_rpc_error(caught.value, hop="tool")


async def test_status_is_exact_at_concurrency_16(channel, upstream, deliveries_path):
    async def one(number: int) -> str:
        try:
            await call(channel, encoded(Status(code="ABORTED"), site="hop") if number % 3 == 0 else None)
        except grpc.aio.AioRpcError as error:
            return error.code().name
        return "OK"

    outcomes = []
    for start in range(0, 192, 16):
        outcomes += await asyncio.gather(*(one(number) for number in range(start, start + 16)))
    assert outcomes == ["ABORTED" if number % 3 == 0 else "OK" for number in range(192)]
    assert upstream.ran == {"k": 128}
    assert len(read_deliveries(deliveries_path)) == 64


async def test_a_refusal_carries_its_fault(channel, upstream):
    for site in ("hop", "tool"):
        error = await failure(channel, encoded(Status(), site))
        assert (error.code.name, error.kind, error.definite, error.fault_id, error.hop) == (
            "UNAVAILABLE",
            "injected_status",
            True,
            "f:status",
            "tool",
        )
    assert upstream.ran == {}


@pytest.mark.parametrize(("direction", "runs"), [("request", 0), ("response", 1)])
async def test_a_stalled_tool_holds_its_caller_to_the_deadline(
    channel, upstream, direction, runs, deliveries_path
):
    for timeout_s in longer_and_longer(0.3):
        error = await failure(channel, encoded(Stall(direction=direction)), timeout_s)
        assert (error.code.name, error.definite) == ("DEADLINE_EXCEEDED", False)
        delivered = {(row.how, row.run_id, row.attempt) for row in read_deliveries(deliveries_path)}
        if delivered and upstream.ran["k"] >= runs:
            break
    assert upstream.ran["k"] == runs
    assert delivered == {("injector", "r", 1)}
    assert (await call(channel, None)).result_json != ""


async def test_a_slow_tool_answers_late(channel, upstream):
    begun = time.perf_counter()
    response = await call(channel, encoded(Latency(delay_ms=120)))
    assert time.perf_counter() - begun >= 0.12
    assert response.result_json == "x" * 20


@pytest.fixture
async def refusing(deliveries, tmp_path):
    """The real tools behind the injector; the ledger refuses an account that it does not have."""
    config = ToolsConfig(ledger_path=tmp_path / "ledger.sqlite")
    server = await start_tools(config, interceptors=[FaultInjector("tool", deliveries)])
    async with grpc.aio.insecure_channel(server.address) as direct:
        yield tools_pb2_grpc.ToolServiceStub(direct)
    await server.stop()


REFUSED = tools_pb2.CallToolRequest(name="ledger_append", arguments_json='{"account": "nobody", "amount": 1}')


@pytest.mark.parametrize(
    ("kind", "code", "timeout_s", "least_s"),
    [
        (Latency(delay_ms=120), "INVALID_ARGUMENT", HANG_S, 0.12),
        (Stall(direction="response"), "DEADLINE_EXCEEDED", 0.3, 0.3),
        (Status(), "UNAVAILABLE", HANG_S, 0.0),
    ],
)
async def test_a_tools_own_refusal_is_late_or_lost_like_an_answer(refusing, kind, code, timeout_s, least_s):
    begun = time.perf_counter()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await refusing.Call(REFUSED, timeout=timeout_s, metadata=((metadata.FAULT, encoded(kind)),))
    assert time.perf_counter() - begun >= least_s
    error = from_rpc_error(caught.value, hop="tool")
    assert (error.code.name, error.kind == "ledger_account_unknown") == (code, code == "INVALID_ARGUMENT")


async def test_what_lanes_deliver_passes_through(channel, upstream, deliveries_path):
    for fault in (
        encoded(Stall(direction="request"), "hop"),
        encoded(Reset(), "hop"),
        encoded(Status(), "hop", "model"),
    ):
        await call(channel, fault)
    assert upstream.ran == {"k": 3}
    assert read_deliveries(deliveries_path) == []


async def test_a_broken_fault_is_refused_and_the_server_lives(channel, upstream):
    for junk in ("", "{", '{"id":1}', "x" * 4000):
        error = await failure(channel, junk)
        assert (error.code.name, error.kind) == ("INVALID_ARGUMENT", "fault_invalid")
    assert upstream.ran == {}
    await call(channel, None)


async def test_a_stream_is_refused_too(channel, upstream):
    stub = inference_pb2_grpc.InferenceServiceStub(channel)
    stream = stub.Generate(
        inference_pb2.GenerateRequest(cache_key="g"),
        timeout=HANG_S,
        metadata=((metadata.FAULT, encoded(Status(), "hop")),),
    )
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stream.read()
    assert from_rpc_error(caught.value, hop="tool").fault_id == "f:status"
    assert upstream.ran == {}


@dataclass
class Until:
    at_s: float

    def remaining_s(self) -> float:
        return max(0.0, self.at_s - time.monotonic())


@dataclass
class Context:
    deadline: Until
    metadata: Mapping[str, str] = field(default_factory=dict)


class LedgerTools:
    """In-process tools with one effect: a list of what ran."""

    def __init__(self) -> None:
        self.ran: list[str] = []

    async def specs(self, *, timeout_s: float):
        return ()

    async def call(self, request: tools_pb2.CallToolRequest, call: Context) -> tools_pb2.CallToolResponse:
        self.ran.append(request.run_id)
        return tools_pb2.CallToolResponse(result_json="{}")


@pytest.mark.parametrize(
    ("kind", "code", "runs", "definite"),
    [
        (Status(code="INTERNAL"), "INTERNAL", 0, True),
        (Stall(direction="request"), "DEADLINE_EXCEEDED", 0, False),
        (Stall(direction="response"), "DEADLINE_EXCEEDED", 1, False),
        (Latency(delay_ms=round(1000 * HANG_S)), "DEADLINE_EXCEEDED", 1, False),
    ],
)
async def test_in_process_faults(deliveries, deliveries_path, kind, code, runs, definite):
    inner = LedgerTools()
    tools = FaultyTools(inner, deliveries)
    request = tools_pb2.CallToolRequest(run_id="r", attempt=1)
    context = Context(Until(time.monotonic() + 0.15), {metadata.FAULT: encoded(kind)})
    with pytest.raises(TreniError) as caught:
        await tools.call(request, context)
    error = caught.value
    assert (error.code.name, error.definite, error.fault_id, error.hop) == (
        code,
        definite,
        f"f:{kind.name}",
        "tool",
    )
    assert len(inner.ran) == runs
    assert [(row.how, row.run_id, row.attempt) for row in read_deliveries(deliveries_path)] == [
        ("in-process", "r", 1)
    ]


async def test_in_process_calls_without_a_fault_of_the_tool_pass(deliveries, deliveries_path):
    inner = LedgerTools()
    tools = FaultyTools(inner, deliveries)
    request = tools_pb2.CallToolRequest(run_id="r")
    until = Until(time.monotonic() + HANG_S)
    for pairs in (
        {},
        {metadata.FAULT: encoded(Stall(direction="request"), "hop")},
        {metadata.FAULT: encoded(Latency(delay_ms=1))},
    ):
        assert (await tools.call(request, Context(until, pairs))).result_json == "{}"
    assert await tools.specs(timeout_s=1.0) == ()
    assert len(inner.ran) == 3
    assert [row.kind for row in read_deliveries(deliveries_path)] == ["latency"]


@pytest.mark.parametrize(
    ("kind", "code", "least_s"),
    [
        (Latency(delay_ms=120), "INVALID_ARGUMENT", 0.12),
        (Stall(direction="response"), "DEADLINE_EXCEEDED", 0.3),
    ],
)
async def test_in_process_a_refusal_is_late_or_lost_too(deliveries, tmp_path, kind, code, least_s):
    pool = BoundedPool(workers=1, queue=1)
    with build_registry(ToolsConfig(ledger_path=tmp_path / "ledger.sqlite")) as registry:
        tools = FaultyTools(RegistryTools(registry, pool), deliveries)
        begun = time.monotonic()
        with pytest.raises(TreniError) as caught:
            await tools.call(REFUSED, Context(Until(begun + 0.3), {metadata.FAULT: encoded(kind)}))
        assert time.monotonic() - begun >= least_s - 0.001
        await pool.close()
    assert caught.value.code.name == code


async def test_cancelling_a_stalled_call_ends_it_at_once(deliveries):
    tools = FaultyTools(LedgerTools(), deliveries)
    context = Context(Until(time.monotonic() + HANG_S), {metadata.FAULT: encoded(Stall(direction="request"))})
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await tools.call(tools_pb2.CallToolRequest(run_id="r"), context)

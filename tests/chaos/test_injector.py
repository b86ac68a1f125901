"""The injector at a real gRPC server, and in front of tools in the loop's own process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import grpc
import pytest

from chaos.deliveries import DeliveryLog, read_deliveries
from chaos.faults import Fault, FaultKind, Hop, Latency, Reset, Site, Stall, Status
from chaos.injector import FaultInjector, FaultyTools
from controller.deadline import Deadline
from controller.ports import AttemptKey, Call
from runtime_svc.internal import RegistryTools
from tests.chaos.conftest import CountingUpstream
from tests.limits import HANG_S, longer_and_longer
from tools_svc.pool import BoundedPool
from tools_svc.protocol import ToolsConfig
from tools_svc.registry import build_registry
from tools_svc.server import start as start_tools
from treni import metadata
from treni.errors import TreniError, from_rpc_error
from treni.v1 import common_pb2, inference_pb2, inference_pb2_grpc, tools_pb2, tools_pb2_grpc


def encoded(kind: FaultKind, site: Site = "tool", hop: Hop = "tool") -> str:
    return Fault(id=f"f:{kind.name}", site=site, hop=hop, kind=kind).encode()


@pytest.fixture
async def channel(upstream: CountingUpstream) -> AsyncIterator[grpc.aio.Channel]:
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


async def test_status_is_exact_at_concurrency_16(
    channel: grpc.aio.Channel, upstream: CountingUpstream, deliveries_path: Path
) -> None:
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


async def test_a_refusal_carries_its_fault(channel: grpc.aio.Channel, upstream: CountingUpstream) -> None:
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
    channel: grpc.aio.Channel,
    upstream: CountingUpstream,
    direction: Literal["request", "response"],
    runs: int,
    deliveries_path: Path,
) -> None:
    for timeout_s in longer_and_longer(0.3):
        error = await failure(channel, encoded(Stall(direction=direction)), timeout_s)
        assert (error.code.name, error.definite) == ("DEADLINE_EXCEEDED", False)
        delivered = {(row.how, row.run_id, row.attempt) for row in read_deliveries(deliveries_path)}
        if delivered and upstream.ran["k"] >= runs:
            break
    assert upstream.ran["k"] == runs
    assert delivered == {("injector", "r", 1)}
    assert (await call(channel, None)).result_json != ""


async def test_a_slow_tool_answers_late(channel: grpc.aio.Channel, upstream: CountingUpstream) -> None:
    begun = time.perf_counter()
    response = await call(channel, encoded(Latency(delay_ms=120)))
    assert time.perf_counter() - begun >= 0.12
    assert response.result_json == "x" * 20


@pytest.fixture
async def refusing(
    deliveries: DeliveryLog, tmp_path: Path
) -> AsyncIterator[tools_pb2_grpc.ToolServiceAsyncStub]:
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
async def test_a_tools_own_refusal_is_late_or_lost_like_an_answer(
    refusing: tools_pb2_grpc.ToolServiceAsyncStub,
    kind: FaultKind,
    code: str,
    timeout_s: float,
    least_s: float,
) -> None:
    begun = time.perf_counter()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await refusing.Call(REFUSED, timeout=timeout_s, metadata=((metadata.FAULT, encoded(kind)),))
    assert time.perf_counter() - begun >= least_s
    error = from_rpc_error(caught.value, hop="tool")
    assert (error.code.name, error.kind == "ledger_account_unknown") == (code, code == "INVALID_ARGUMENT")


async def test_what_lanes_deliver_passes_through(
    channel: grpc.aio.Channel, upstream: CountingUpstream, deliveries_path: Path
) -> None:
    for fault in (
        encoded(Stall(direction="request"), "hop"),
        encoded(Reset(), "hop"),
        encoded(Status(), "hop", "model"),
    ):
        await call(channel, fault)
    assert upstream.ran == {"k": 3}
    assert read_deliveries(deliveries_path) == []


async def test_a_broken_fault_is_refused_and_the_server_lives(
    channel: grpc.aio.Channel, upstream: CountingUpstream
) -> None:
    for junk in ("", "{", '{"id":1}', "x" * 4000):
        error = await failure(channel, junk)
        assert (error.code.name, error.kind) == ("INVALID_ARGUMENT", "fault_invalid")
    assert upstream.ran == {}
    await call(channel, None)


async def test_a_stream_is_refused_too(channel: grpc.aio.Channel, upstream: CountingUpstream) -> None:
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

    async def specs(self, *, timeout_s: float) -> Sequence[common_pb2.ToolSpec]:
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
async def test_in_process_faults(
    deliveries: DeliveryLog, deliveries_path: Path, kind: FaultKind, code: str, runs: int, definite: bool
) -> None:
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


async def test_in_process_calls_without_a_fault_of_the_tool_pass(
    deliveries: DeliveryLog, deliveries_path: Path
) -> None:
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
async def test_in_process_a_refusal_is_late_or_lost_too(
    deliveries: DeliveryLog, tmp_path: Path, kind: FaultKind, code: str, least_s: float
) -> None:
    pool = BoundedPool(workers=1, queue=1)
    with build_registry(ToolsConfig(ledger_path=tmp_path / "ledger.sqlite")) as registry:
        tools = FaultyTools(RegistryTools(registry, pool), deliveries)
        begun = time.monotonic()
        with pytest.raises(TreniError) as caught:
            await tools.call(
                REFUSED,
                Call(
                    key=AttemptKey(hop="tool", run_id="r", request_index=0, call_index=0, attempt=0),
                    deadline=Deadline.after(0.3),
                    metadata={metadata.FAULT: encoded(kind)},
                ),
            )
        assert time.monotonic() - begun >= least_s - 0.001
        await pool.close()
    assert caught.value.code.name == code


async def test_cancelling_a_stalled_call_ends_it_at_once(deliveries: DeliveryLog) -> None:
    tools = FaultyTools(LedgerTools(), deliveries)
    context = Context(Until(time.monotonic() + HANG_S), {metadata.FAULT: encoded(Stall(direction="request"))})
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await tools.call(tools_pb2.CallToolRequest(run_id="r"), context)

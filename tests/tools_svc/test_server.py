from __future__ import annotations

import asyncio
import itertools
import json
import signal
import sqlite3
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from tests.limits import HANG_S
from tools_svc.ledger_append import LedgerAppend, read_effects
from tools_svc.protocol import CallInfo, ToolOutput, ToolsConfig
from tools_svc.registry import tool_specs
from tools_svc.server import start
from treni import metadata
from treni.errors import Code, TreniError, abort, from_rpc_error
from treni.guard import Handler
from treni.v1.tools_pb2 import CallToolRequest, CallToolResponse, ListToolsRequest
from treni.v1.tools_pb2_grpc import ToolServiceStub

RENT = '{"account": "rent", "amount": 120}'


class Client:
    """One channel to one server."""

    def __init__(self, address: str) -> None:
        self.channel = grpc.aio.insecure_channel(address, options=metadata.CHANNEL_OPTIONS)
        self.stub = ToolServiceStub(self.channel)

    async def call(
        self, name: str, arguments_json: str, *, timeout_s: float | None = HANG_S, **ids: Any
    ) -> CallToolResponse:
        request = CallToolRequest(name=name, arguments_json=arguments_json, **ids)
        return await self.stub.Call(request, timeout=timeout_s)

    async def error(self, name: str, arguments_json: str, **rest: Any) -> TreniError:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await self.call(name, arguments_json, **rest)
        return from_rpc_error(caught.value, hop="tool")

    async def is_alive(self) -> bool:
        health = health_pb2_grpc.HealthStub(self.channel)
        answer = await health.Check(
            health_pb2.HealthCheckRequest(service="treni.v1.ToolService"), timeout=HANG_S
        )
        response = await self.call("calculator", '{"expression": "6*7"}')
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING) and "42" in response.result_json


@asynccontextmanager
async def serving(config: ToolsConfig, **options: Any) -> AsyncIterator[Client]:
    server = await start(config, **options)
    client = Client(server.address)
    try:
        yield client
    finally:
        await client.channel.close()
        await server.stop()


@pytest.fixture
async def client(config: ToolsConfig) -> AsyncIterator[Client]:
    async with serving(config) as client:
        yield client


async def test_lists_and_calls(client: Client, config: ToolsConfig) -> None:
    listed = await client.stub.List(ListToolsRequest())
    assert tuple(listed.tools) == tool_specs()
    response = await client.call(
        "ledger_append", RENT, run_id="r", task_id="t", attempt=2, idempotency_key="k"
    )
    assert response.result_json == '{"recorded": {"account": "rent", "amount": 120}}'
    assert response.tool_s > 0
    assert (await client.call("ledger_append", RENT, idempotency_key="k")).replayed
    (row,) = read_effects(config.ledger_path)
    assert (row.run_id, row.task_id, row.attempt, row.idempotency_key) == ("r", "t", 2, "k")


async def test_health_and_reflection(client: Client, config: ToolsConfig) -> None:
    assert await client.is_alive()
    server = await start(config)
    with grpc.insecure_channel(server.address) as channel:
        services = await asyncio.to_thread(lambda: ProtoReflectionDescriptorDatabase(channel).get_services())
    await server.stop()
    assert {"treni.v1.ToolService", "grpc.health.v1.Health"} <= set(services)


@pytest.mark.parametrize(
    ("name", "arguments_json", "code", "kind"),
    [
        ("calculator", '{"expression": 7}', Code.INVALID_ARGUMENT, "arguments_invalid"),
        ("ledger_append", '{"account": "rent", "amount": true}', Code.INVALID_ARGUMENT, "arguments_invalid"),
        ("ledger_append", '{"account": "rent"', Code.INVALID_ARGUMENT, "arguments_not_json"),
        ("ledger_append", RENT + " " * 70_000, Code.INVALID_ARGUMENT, "arguments_too_large"),
        ("ledger_append", RENT + " " * 200_000, Code.INVALID_ARGUMENT, "request_too_large"),
        ("ledger_apend", RENT, Code.NOT_FOUND, "tool_unknown"),
        ("x" * 100_000, RENT, Code.NOT_FOUND, "tool_unknown"),
        ("\0", RENT, Code.NOT_FOUND, "tool_unknown"),
        ("ledger_append", "[" * 60_000, Code.INVALID_ARGUMENT, "arguments_too_deep"),
        (
            "calculator",
            json.dumps({"expression": "é\n" * 15_000}),
            Code.INVALID_ARGUMENT,
            "arguments_too_large",
        ),
        ("facts_sql", json.dumps({"query": "SELECT 日本\n语"}), Code.INVALID_ARGUMENT, "sql_unknown_column"),
    ],
    ids=lambda value: str(value)[:30],
)
async def test_bad_input_is_a_typed_error_and_changes_nothing(
    client: Client, config: ToolsConfig, name: str, arguments_json: str, code: Code, kind: str
) -> None:
    error = await client.error(name, arguments_json, idempotency_key="k")
    assert (error.code, error.kind, error.definite) == (code, kind, True)
    assert await client.is_alive()
    assert read_effects(config.ledger_path) == []


async def test_bytes_that_are_no_message_do_not_kill_the_server(client: Client) -> None:
    for method, payload, code, kind in (
        ("Call", b"\xff" * 1000, Code.INVALID_ARGUMENT, "request_malformed"),
        ("List", b"\x0a\xff", Code.INVALID_ARGUMENT, "request_malformed"),
        ("Gone", b"", Code.UNIMPLEMENTED, "method_unknown"),
    ):
        raw: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = client.channel.unary_unary(
            f"/treni.v1.ToolService/{method}"
        )
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await raw(payload, timeout=HANG_S)
        error = from_rpc_error(caught.value, hop="tool")
        assert (error.code, error.kind, error.definite) == (code, kind, True)
    assert await client.is_alive()


async def test_expired_deadlines_never_run_the_tool_when_they_say_so(
    client: Client, config: ToolsConfig
) -> None:
    await client.is_alive()
    ran: set[str] = set()
    refused: set[str] = set()
    for number in itertools.count():
        if number >= 200 and refused:
            break
        key = f"k{number}"
        try:
            await client.call("ledger_append", RENT, timeout_s=(number % 40) * 1e-4, idempotency_key=key)
            ran.add(key)
        except grpc.aio.AioRpcError as failure:
            error = from_rpc_error(failure, hop="tool")
            if error.code is Code.DEADLINE_EXCEEDED and error.definite:
                refused.add(key)
    assert (await client.error("ledger_append", RENT, timeout_s=-1.0)).code is Code.DEADLINE_EXCEEDED
    assert await client.is_alive()
    written = {row.idempotency_key for row in read_effects(config.ledger_path)}
    assert ran <= written
    assert not refused & written


@pytest.fixture
def entered(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set once a call is in the ledger, where it now waits for its lock as long as it must."""
    event, run = threading.Event(), LedgerAppend.run

    def watched(self: LedgerAppend, arguments: Mapping[str, Any], info: CallInfo) -> ToolOutput:
        event.set()
        return run(self, arguments, info)

    monkeypatch.setattr(LedgerAppend, "run", watched)
    monkeypatch.setattr("tools_svc.ledger_append.LOCK_WAIT_S", HANG_S)
    return event


@asynccontextmanager
async def only_worker_busy(
    client: Client, config: ToolsConfig, entered: threading.Event
) -> AsyncIterator[asyncio.Task[CallToolResponse]]:
    """Inside, the server's one worker is in a ledger call, key "busy", that cannot end; after, it can."""
    with closing(sqlite3.connect(config.ledger_path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        busy = asyncio.create_task(client.call("ledger_append", RENT, idempotency_key="busy"))
        assert await asyncio.to_thread(entered.wait, HANG_S)
        yield busy
        other.execute("ROLLBACK")


async def test_a_call_that_expires_or_is_cancelled_in_the_queue_has_no_effect(
    config: ToolsConfig, entered: threading.Event
) -> None:
    async with serving(config, workers=1) as client:
        async with only_worker_busy(client, config, entered) as busy:
            cancelled = asyncio.create_task(client.call("ledger_append", RENT, idempotency_key="cancelled"))
            expired = await client.error("ledger_append", RENT, timeout_s=0.1, idempotency_key="expired")
            assert expired.code is Code.DEADLINE_EXCEEDED
            cancelled.cancel()
            with pytest.raises(asyncio.CancelledError):
                await cancelled
            # What was sent first on a connection arrives first: by this answer the server knows who has left.
            assert await client.is_alive()
            assert not busy.done()
        assert not (await busy).replayed
        assert await client.is_alive()
    assert [row.idempotency_key for row in read_effects(config.ledger_path)] == ["busy"]


async def test_a_full_queue_refuses(config: ToolsConfig, entered: threading.Event) -> None:
    async with serving(config, workers=1, queue=8) as client:
        async with only_worker_busy(client, config, entered):
            calls = [asyncio.create_task(client.call("ledger_append", RENT)) for _ in range(40)]
            refused = asyncio.as_completed(calls)
            for _ in range(32):
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await next(refused)
                assert _typed(caught.value) == (Code.RESOURCE_EXHAUSTED, "tool_queue_full", True)
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert sum(isinstance(each, CallToolResponse) for each in outcomes) == 8
        assert len(read_effects(config.ledger_path)) == 1 + 8
        assert await client.is_alive()


async def test_two_hundred_concurrent_calls(client: Client, config: ToolsConfig) -> None:
    kinds = [
        ("calculator", '{"expression": "1/3"}'),
        ("facts_sql", '{"query": "SELECT count(*) FROM cities"}'),
        ("notes_search", '{"query": "heron"}'),
        ("ledger_append", RENT),
        ("ledger_append", '{"account": "rent"}'),
        ("nothing", "{}"),
        ("calculator", '{"expression": "1/0"}'),
        ("facts_sql", '{"query": "DROP TABLE cities"}'),
    ]
    calls = [
        client.call(*kinds[number % len(kinds)], idempotency_key=f"k{number % 100}") for number in range(200)
    ]
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    codes = Counter(
        from_rpc_error(each, hop="tool").kind if isinstance(each, grpc.RpcError) else "ok"
        for each in outcomes
    )
    assert codes == {"ok": 100, "arguments_invalid": 25, "tool_unknown": 25, "division_by_zero": 25} | {
        "sql_not_select": 25
    }
    keys = {f"k{number % 100}" for number in range(200) if number % len(kinds) == 3}
    assert Counter(row.idempotency_key for row in read_effects(config.ledger_path)) == dict.fromkeys(keys, 1)
    assert await client.is_alive()


def _typed(error: grpc.aio.AioRpcError) -> tuple[Code, str, bool]:
    seen = from_rpc_error(error, hop="tool")
    return seen.code, seen.kind, seen.definite


class Refuse(grpc.aio.ServerInterceptor):
    """Aborts every call of the service before its handler, as an injected status does."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        handler = await continuation(handler_call_details)
        if handler is None or not handler_call_details.method.endswith("/Call"):
            return handler
        error = TreniError(
            Code.UNAVAILABLE, "injected", expected="e", got="g", todo="t", definite=True, fault_id="f1"
        )

        async def refuse(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            await abort(context, error)

        return grpc.unary_unary_rpc_method_handler(
            refuse,
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )


async def test_interceptors_stand_before_the_tools(config: ToolsConfig) -> None:
    async with serving(config, interceptors=[Refuse()]) as client:
        error = await client.error("ledger_append", RENT)
        assert (error.kind, error.fault_id, error.definite) == ("injected", "f1", True)
        assert len((await client.stub.List(ListToolsRequest())).tools) == 4
        assert read_effects(config.ledger_path) == []


async def test_an_address_in_use_is_said_so(config: ToolsConfig, tmp_path: Path) -> None:
    server = await start(config)
    port = int(server.address.rpartition(":")[2])
    with pytest.raises(TreniError, match="to be free"):
        await start(ToolsConfig(ledger_path=tmp_path / "other.sqlite"), port=port)
    await server.stop()
    again = await start(config, port=port)
    await again.stop()


@pytest.fixture
def process(config: ToolsConfig) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`python -m tools_svc`, and its address."""
    command = [sys.executable, "-m", "tools_svc", "--port", "0", "--ledger", str(config.ledger_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        assert ready["service"] == "tools"
        yield process, ready["address"]
        process.kill()


async def test_the_command_serves_until_it_is_told_to_stop(
    process: tuple[subprocess.Popen[str], str], config: ToolsConfig
) -> None:
    running, address = process
    client = Client(address)
    await client.call("ledger_append", RENT, idempotency_key="k")
    await client.channel.close()
    running.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(running.wait, HANG_S) == 0
    assert [row.idempotency_key for row in read_effects(config.ledger_path)] == ["k"]


async def test_kill_9_keeps_what_was_answered(
    process: tuple[subprocess.Popen[str], str], config: ToolsConfig
) -> None:
    running, address = process
    client = Client(address)
    calls = [client.call("ledger_append", RENT, idempotency_key=f"k{number}") for number in range(50)]
    await asyncio.gather(*calls[:25])
    rest = asyncio.gather(*calls[25:], return_exceptions=True)
    await asyncio.sleep(0)
    running.kill()
    outcomes = await rest
    await client.channel.close()
    answered = [f"k{n}" for n in range(25)]
    answered += [f"k{n + 25}" for n, each in enumerate(outcomes) if isinstance(each, CallToolResponse)]
    counts = Counter(row.idempotency_key for row in read_effects(config.ledger_path))
    assert set(answered) <= set(counts)
    assert set(counts.values()) == {1}


async def test_memory_is_bounded_under_huge_requests(process: tuple[subprocess.Popen[str], str]) -> None:
    running, address = process
    client = Client(address)
    assert await client.is_alive()
    before = psutil.Process(running.pid).memory_info().rss
    huge = '{"expression": "' + "1" * 10_000_000 + '"}'
    largest = '{"expression": "' + "1" * 120_000 + '"}'
    for arguments_json, copies in ((huge, 10), (largest, 200)):
        calls = [client.call("calculator", arguments_json) for _ in range(copies)]
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        codes = {each.code() for each in outcomes if isinstance(each, grpc.aio.AioRpcError)}
        assert codes <= {Code.RESOURCE_EXHAUSTED, Code.INVALID_ARGUMENT}
        assert len(codes) == 1
    assert psutil.Process(running.pid).memory_info().rss - before < 128 * 1024 * 1024
    assert await client.is_alive()
    await client.channel.close()

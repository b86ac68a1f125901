"""Fixtures of the chaos tests: a toxiproxy program from our own builder, and a real gRPC upstream that counts."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import grpc
import pytest
from grpc_health.v1 import health, health_pb2_grpc

from chaos.deliveries import DeliveryLog
from chaos.injector import FaultInjector
from chaos.toxiproxy import ToxiproxyServer
from chaos.toxiproxy_build import ensure_server
from treni import metadata
from treni.v1 import inference_pb2, inference_pb2_grpc, tools_pb2, tools_pb2_grpc

Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]


class CountingUpstream(tools_pb2_grpc.ToolServiceServicer, inference_pb2_grpc.InferenceServiceServicer):
    """Counts the calls its handlers really ran, by idempotency key; answers `answer_bytes` bytes of result."""

    def __init__(self) -> None:
        self.ran: Counter[str] = Counter()
        self._ran_one = asyncio.Event()
        self.answer_bytes = 20
        self.address = ""

    async def has_run(self, key: str) -> None:
        """Returns once a call with that key has."""
        while not self.ran[key]:
            self._ran_one.clear()
            await self._ran_one.wait()

    async def Call(self, request: tools_pb2.CallToolRequest, context: Context) -> tools_pb2.CallToolResponse:
        self.ran[request.idempotency_key] += 1
        self._ran_one.set()
        return tools_pb2.CallToolResponse(result_json="x" * self.answer_bytes)

    async def Generate(
        self, request: inference_pb2.GenerateRequest, context: Context
    ) -> AsyncIterator[inference_pb2.GenerateChunk]:
        self.ran[request.cache_key] += 1
        for word in ("a ", "b ", "c"):
            yield inference_pb2.GenerateChunk(text=word)

    async def List(
        self, request: tools_pb2.ListToolsRequest, context: Context
    ) -> tools_pb2.ListToolsResponse:
        await context.abort(grpc.StatusCode.UNIMPLEMENTED)

    async def Embed(
        self, request: inference_pb2.EmbedRequest, context: Context
    ) -> inference_pb2.EmbedResponse:
        await context.abort(grpc.StatusCode.UNIMPLEMENTED)

    async def Info(self, request: inference_pb2.InfoRequest, context: Context) -> inference_pb2.InfoResponse:
        await context.abort(grpc.StatusCode.UNIMPLEMENTED)


class Serve(Protocol):
    """The type of `serve`."""

    def __call__(
        self, upstream: CountingUpstream, deliveries: DeliveryLog, *options: tuple[str, int]
    ) -> AbstractAsyncContextManager[grpc.aio.Server]:
        """The server while it runs."""
        ...


@asynccontextmanager
async def serve(
    upstream: CountingUpstream, deliveries: DeliveryLog, *options: tuple[str, int]
) -> AsyncIterator[grpc.aio.Server]:
    server = grpc.aio.server(
        options=[*metadata.SERVER_OPTIONS, *options], interceptors=[FaultInjector("tool", deliveries)]
    )
    tools_pb2_grpc.add_ToolServiceServicer_to_server(upstream, server)
    inference_pb2_grpc.add_InferenceServiceServicer_to_server(upstream, server)
    health_pb2_grpc.add_HealthServicer_to_server(health.aio.HealthServicer(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    upstream.address = f"127.0.0.1:{port}"
    try:
        yield server
    finally:
        await server.stop(None)


@pytest.fixture
def serve_upstream() -> Serve:
    """`serve`, for a test that needs a server of its own."""
    return serve


@pytest.fixture(scope="session")
def toxiproxy_program() -> Path:
    return ensure_server()


@pytest.fixture
async def toxiproxy(toxiproxy_program: Path) -> AsyncIterator[ToxiproxyServer]:
    async with await ToxiproxyServer.start(program=toxiproxy_program) as server:
        yield server


@pytest.fixture
def deliveries_path(tmp_path: Path) -> Path:
    return tmp_path / "deliveries.jsonl"


@pytest.fixture
def deliveries(deliveries_path: Path) -> Iterator[DeliveryLog]:
    with DeliveryLog(deliveries_path) as log:
        yield log


@pytest.fixture
async def upstream(deliveries: DeliveryLog) -> AsyncIterator[CountingUpstream]:
    counting = CountingUpstream()
    async with serve(counting, deliveries):
        yield counting

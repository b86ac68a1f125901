"""A flood of requests that are refused leaves a process as it was: in memory, and for those who come after it."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import grpc
import psutil
import pytest

from tests.limits import HANG_S
from tests.proto.roles import MODEL, role
from treni.channels import open_channel
from treni.errors import Code, from_rpc_error
from treni.limits import AGENT_REQUEST, MODEL_REQUEST, TOOL_REQUEST
from treni.v1 import inference_pb2, inference_pb2_grpc

CONNECTIONS = 8
SETTLED = 1.1
"""What may stay, of what was there before the flood."""


async def flood(address: str, method: str, data: bytes, calls: int) -> set[tuple[Code, str]]:
    """So many calls at once, over several connections; what became of them."""
    channels = [open_channel(address) for _ in range(CONNECTIONS)]

    async def one(number: int) -> tuple[Code, str]:
        channel = channels[number % CONNECTIONS]
        raw: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(method)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await raw(data, timeout=HANG_S)
        error = from_rpc_error(caught.value, hop="x")
        return error.code, error.kind

    seen = set(await asyncio.gather(*map(one, range(calls))))
    for channel in channels:
        await channel.close()
    return seen


def process_at(address: str) -> psutil.Process:
    port = int(address.rpartition(":")[2])
    for connection in psutil.net_connections("tcp"):
        if connection.laddr and connection.laddr.port == port and connection.status == psutil.CONN_LISTEN:
            return psutil.Process(connection.pid)
    raise AssertionError(f"nobody listens at {address}")


BUSY = (Code.RESOURCE_EXHAUSTED, "too_many_calls")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["runtime", "tools"])
async def test_memory_comes_back_after_a_flood_of_refused_requests(name: str, tmp_path: Path) -> None:
    arguments, method, limit = {
        "runtime": (("runtime_svc", "--model", str(MODEL)), "InferenceService/Embed", AGENT_REQUEST),
        "tools": (("tools_svc", "--ledger", str(tmp_path / "ledger")), "ToolService/Call", TOOL_REQUEST),
    }[name]
    async with role(*arguments) as address:
        server = process_at(address)
        await flood(address, f"/treni.v1.{method}", b"\xff", 500)  # connections and their buffers
        before = server.memory_info().rss
        for size, expected in (
            (4_000_000, {(Code.RESOURCE_EXHAUSTED, "resource_exhausted")}),
            (2 * limit.most - 100, {(Code.INVALID_ARGUMENT, "request_too_large"), BUSY}),
        ):
            assert await flood(address, f"/treni.v1.{method}", bytes(size), 300) <= expected
        flooded = server.memory_info().rss
        until_s = time.monotonic() + HANG_S
        while (after := server.memory_info().rss) > SETTLED * before:
            assert time.monotonic() < until_s, f"{before >> 20} MiB before, {after >> 20} MiB now"
            await asyncio.sleep(1)
        print(f"{name}: {before >> 20} MiB before, {flooded >> 20} flooded, {after >> 20} after")


@pytest.mark.slow
async def test_empty_messages_hold_up_nobody() -> None:
    """As many as a request can hold, from many at once: who asks for an answer beside them gets it."""
    request = inference_pb2.GenerateRequest()
    request.ParseFromString(b"\x0a\x00" * (MODEL_REQUEST.most // 2 - 10))
    async with role("runtime_svc", "--model", str(MODEL)) as address:
        data = request.SerializeToString()
        attack = asyncio.ensure_future(flood(address, "/treni.v1.InferenceService/Generate", data, 300))
        async with open_channel(address) as channel:
            good = inference_pb2.GenerateRequest()
            good.messages.add(role="user", content="Hello")
            chunks = inference_pb2_grpc.InferenceServiceStub(channel).Generate(good, timeout=HANG_S)
            *_, last = [chunk async for chunk in chunks]
            assert last.finish.usage.completion_tokens > 0
        assert await attack <= {(Code.INVALID_ARGUMENT, "messages_too_many"), BUSY}

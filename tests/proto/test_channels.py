"""Nothing stands between two services: no proxy of the environment, and no connection that has gone silent."""

from __future__ import annotations

import ast
import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.limits import HANG_S
from tests.proto.relay import relay, trap
from tests.proto.roles import all_roles
from treni import channels, serving
from treni.channels import open_channel, open_http
from treni.errors import Code
from treni.limits import HEADER_BYTES
from treni.v1 import agent_pb2, agent_pb2_grpc

ROOMS = ("proto/treni", "runtime_svc", "controller", "tools_svc", "chaos", "matrices")
CONNECTS = {
    *(
        "insecure_channel",
        "secure_channel",
        "AsyncClient",
        "Client",
        "urlopen",
        "HTTPConnection",
        "ClientSession",
    ),
    *(
        "httpx.get",
        "httpx.post",
        "httpx.stream",
        "httpx.request",
        "requests.get",
        "requests.post",
        "requests.Session",
    ),
}


def proxies(address: str) -> dict[str, str]:
    """Every way in which an environment can ask for a proxy, for every host there is."""
    names = ("http_proxy", "https_proxy", "grpc_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
    return {
        **dict.fromkeys(names, f"http://{address}"),
        "socks_proxy": f"socks5://{address}",
        "no_proxy": "",
        "NO_PROXY": "",
        "GRPC_ADDRESS_HTTP_PROXY": address,
        "GRPC_ADDRESS_HTTP_PROXY_ENABLED_ADDRESSES": "127.0.0.0/8,::1/128",
    }


async def check(channel: grpc.aio.Channel, timeout_s: float = HANG_S, headers: tuple[str, ...] = ()) -> None:
    await health_pb2_grpc.HealthStub(channel).Check(
        health_pb2.HealthCheckRequest(),
        timeout=timeout_s,
        metadata=tuple(("x-of-ours", value) for value in headers),
    )


async def test_no_role_goes_by_a_proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with trap() as (address, came):
        for name, value in proxies(address).items():
            monkeypatch.setenv(name, value)
        async with all_roles(tmp_path) as addresses, open_channel(addresses["controller"]) as channel:
            request = agent_pb2.RunRequest(
                run_id="r", task_id="t", prompt="What is 6 times 7?", tools=["calculator"]
            )
            run = agent_pb2_grpc.AgentServiceStub(channel).Run(request, timeout=HANG_S)
            *_, last = [event async for event in run]
            assert {attempt.hop for attempt in last.record.attempts} == {"model", "tool"}
        assert came == []


async def test_large_headers_are_always_taken_and_larger_ones_never() -> None:
    """Between two limits of its own, gRPC refuses by lot: one call of seven with headers of 9 KiB."""
    server = await serving.start([])
    try:
        async with open_channel(server.address) as channel:
            rest = 1024  # for the headers that gRPC adds, and for what it counts with each
            for _ in range(50):
                await check(channel, headers=("v" * ((HEADER_BYTES - rest) // 2),) * 2)
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await check(channel, headers=("v" * (HEADER_BYTES // 2),) * 2)
                assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    finally:
        await server.stop(grace_s=0)


async def test_the_trap_works(monkeypatch: pytest.MonkeyPatch) -> None:
    """A channel that is made in another way does go by the proxy: else the test above would prove nothing."""
    server = await serving.start([])
    for name in ("http_proxy", "GRPC_ADDRESS_HTTP_PROXY"):
        async with trap() as (address, came):
            with monkeypatch.context() as patched:
                patched.setenv(name, proxies(address)[name])
                patched.setenv("GRPC_ADDRESS_HTTP_PROXY_ENABLED_ADDRESSES", "127.0.0.0/8")
                async with grpc.aio.insecure_channel(server.address) as channel:
                    with pytest.raises(grpc.aio.AioRpcError):
                        await check(channel)
            assert came
    await server.stop(grace_s=0)


async def test_http_goes_by_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with trap() as (address, came):
        for name, value in proxies(address).items():
            monkeypatch.setenv(name, value)
        async with open_http(base_url=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}") as client:
            assert (await client.get("/")).text == "hi"
        assert came == []
    server.close()


def connections_made(file: Path) -> Iterator[str]:
    """Calls in the file that make a connection by themselves."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and CONNECTS & {
            ast.unparse(node.func),
            ast.unparse(node.func).split(".")[-1],
        }:
            yield f"{file}:{node.lineno} {ast.unparse(node.func)}"


def test_connections_are_made_in_one_place() -> None:
    found = [
        made
        for room in ROOMS
        for file in sorted(Path(room).rglob("*.py"))
        if not file.name.endswith(("_pb2.py", "_pb2_grpc.py"))
        for made in connections_made(file)
    ]
    assert sorted((made.partition(":")[0], made.rpartition(" ")[2]) for made in found) == [
        ("proto/treni/channels.py", "grpc.aio.insecure_channel"),
        ("proto/treni/channels.py", "grpc.aio.secure_channel"),
        ("proto/treni/channels.py", "httpx.AsyncClient"),
        # What MCP's own SDK speaks over, past the environment's proxies too.
        ("tools_svc/mcp/connection.py", "Client"),
        ("tools_svc/mcp/http.py", "httpx2.AsyncClient"),
    ], found


@pytest.mark.slow
async def test_a_connection_that_went_silent_is_replaced_and_a_quiet_one_is_kept() -> None:
    """With a stream on it, with a call on it, or idle; by the settings as they are, whose bound is documented."""
    server = await serving.start([])
    health = health_pb2.HealthCheckRequest()
    async with relay(server.address) as broken, relay(server.address) as quiet:
        streaming, calling, idle = (open_channel(broken.address) for _ in range(3))
        async with streaming, calling, idle, open_channel(quiet.address) as kept:
            watch = health_pb2_grpc.HealthStub(streaming).Watch(health)
            await watch.read()
            for channel in (calling, idle, kept):
                await check(channel)
            assert broken.connections == 3
            broken.silence()
            silent_s = time.monotonic()

            async def replaced(work: asyncio.Future[object]) -> float:
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await work
                assert caught.value.code() is Code.UNAVAILABLE
                return time.monotonic() - silent_s

            async def given_up(channel: grpc.aio.Channel) -> float:
                async with asyncio.timeout(HANG_S):
                    await channel.wait_for_state_change(grpc.ChannelConnectivity.READY)
                return time.monotonic() - silent_s

            stub = health_pb2_grpc.HealthStub(calling)
            took_s = await asyncio.gather(
                replaced(asyncio.ensure_future(watch.read())),
                replaced(asyncio.ensure_future(stub.Check(health, timeout=HANG_S))),
                given_up(idle),
            )
            print("replaced after", [round(each, 1) for each in took_s], "s")
            for channel in (streaming, calling, idle):
                await check(channel)
            assert broken.connections == 6
            # Long enough for a server that counts pings to have had enough of them.
            await asyncio.sleep(3 * channels.KEEPALIVE_INTERVAL_S + 1)
            await check(kept)
            assert quiet.connections == 1
    await server.stop(grace_s=0)

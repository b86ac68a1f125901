"""The real toxiproxy server: its process, its API through our adapter, and what its death does to calls."""

from __future__ import annotations

import asyncio
import math
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import grpc
import psutil
import pytest

from chaos.deliveries import DeliveryLog
from chaos.faults import Fault, Latency, Toxic
from chaos.lanes import open_lanes
from chaos.schedule import Rule, Schedule
from chaos.toxiproxy import ToxiproxyClient, ToxiproxyServer
from chaos.when import Every
from tests.chaos.conftest import CountingUpstream
from tests.limits import HANG_S
from treni import metadata
from treni.errors import TreniError
from treni.v1 import tools_pb2, tools_pb2_grpc

pytestmark = pytest.mark.chaos


async def test_it_serves_and_leaves_no_process(toxiproxy_program: Path, tmp_path: Path) -> None:
    log = tmp_path / "toxiproxy.log"
    server = await ToxiproxyServer.start(program=toxiproxy_program, log_path=log)
    process = psutil.Process(server.pid)
    assert server.version.startswith("2.")
    assert {item.laddr.ip for item in process.net_connections(kind="tcp")} == {"127.0.0.1"}
    assert server.death() is None
    await server.stop()
    await server.stop()
    assert not process.is_running()
    assert server.death() == "toxiproxy ended with status 0"


async def test_a_port_that_another_server_took_is_not_mistaken_for_ours(
    toxiproxy: ToxiproxyServer, toxiproxy_program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # On a taken port the program lives on, and the other server answers: only the listener's pid tells.
    port = int(toxiproxy.address.rpartition(":")[2])
    before = {child.pid for child in psutil.Process().children()}
    assert await ToxiproxyServer._start_on("127.0.0.1", port, toxiproxy_program, None) is None
    assert {child.pid for child in psutil.Process().children()} <= before
    ports = iter([port, port])
    monkeypatch.setattr("chaos.toxiproxy.free_port", lambda _: next(ports, 0) or free_port())
    async with await ToxiproxyServer.start(program=toxiproxy_program) as second:
        assert second.address != toxiproxy.address
        assert ToxiproxyClient(second.address).version() == second.version


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def test_a_program_that_is_no_server_is_an_error() -> None:
    with pytest.raises(TreniError) as caught:
        await ToxiproxyServer.start(program=Path("/bin/false"))
    assert (caught.value.code.name, caught.value.kind) == ("UNAVAILABLE", "toxiproxy_not_up")


def test_it_dies_with_a_killed_parent(toxiproxy_program: Path) -> None:
    script = (
        "import asyncio, sys, pathlib\n"
        "from chaos.toxiproxy import ToxiproxyServer\n"
        "async def main():\n"
        "    server = await ToxiproxyServer.start(program=pathlib.Path(sys.argv[1]))\n"
        "    print(server.pid, flush=True)\n"
        "    await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    command = [sys.executable, "-c", script, str(toxiproxy_program)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        server = psutil.Process(int(parent.stdout.readline()))
        assert server.is_running()
        parent.send_signal(signal.SIGKILL)
    server.wait(timeout=HANG_S)


async def test_two_servers_do_not_mix(toxiproxy: ToxiproxyServer, toxiproxy_program: Path) -> None:
    async with await ToxiproxyServer.start(program=toxiproxy_program) as other:
        first, second = ToxiproxyClient(toxiproxy.address), ToxiproxyClient(other.address)
        first.create_proxy("a", upstream="127.0.0.1:9")
        second.create_proxy("b", upstream="127.0.0.1:9")
        assert (set(first.proxies()), set(second.proxies())) == ({"a"}, {"b"})


async def test_attaching_leaves_the_server_alone(toxiproxy: ToxiproxyServer) -> None:
    async with await ToxiproxyServer.attach(toxiproxy.address) as attached:
        assert (attached.pid, attached.death(), attached.version) == (None, None, toxiproxy.version)
    assert ToxiproxyClient(toxiproxy.address).version() == toxiproxy.version


async def test_refusals_and_mismatches_are_typed(toxiproxy: ToxiproxyServer) -> None:
    client = ToxiproxyClient(toxiproxy.address)
    proxy = client.create_proxy("p", upstream="127.0.0.1:9")
    latency = Toxic(type="latency", stream="upstream", attributes={"latency": 5, "jitter": 0})
    client.add_toxic("p", latency)
    for attempt in (
        lambda: client.create_proxy("p", upstream="127.0.0.1:9"),
        lambda: client.create_proxy("q", upstream="127.0.0.1:9", listen=proxy.listen),  # a 500 of the server
        lambda: client.add_toxic("p", latency),
        lambda: client.add_toxic("p", Toxic(type="flood", stream="upstream", attributes={})),
        lambda: client.add_toxic("none", latency),
        lambda: client.delete_proxy("none"),
    ):
        with pytest.raises(TreniError) as caught:
            attempt()
        assert (caught.value.code.name, caught.value.kind) == ("FAILED_PRECONDITION", "toxiproxy_refused")
    with pytest.raises(TreniError, match="colour") as caught:
        client.add_toxic(
            "p", Toxic(type="latency", stream="downstream", attributes={"latency": 1, "colour": 3})
        )
    assert (caught.value.code.name, caught.value.kind) == ("INTERNAL", "toxiproxy_mismatch")
    assert set(client.proxies()) == {"p"}
    client.delete_proxy("p")
    assert client.proxies() == {}


async def test_the_environments_http_proxy_is_not_used(
    toxiproxy: ToxiproxyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert ToxiproxyClient(toxiproxy.address).version() == toxiproxy.version


async def test_a_server_that_is_absent_mute_or_foreign_is_unreachable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        addresses = {"absent": f"127.0.0.1:{free_port()}", "mute": f"127.0.0.1:{mute.getsockname()[1]}"}

        async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
            await writer.drain()
            writer.close()

        async with await asyncio.start_server(babble, "127.0.0.1", 0) as foreign:
            addresses["foreign"] = f"127.0.0.1:{foreign.sockets[0].getsockname()[1]}"
            for address in addresses.values():
                client = ToxiproxyClient(address, timeout_s=0.3)
                with pytest.raises(TreniError) as caught:
                    await asyncio.to_thread(client.version)
                assert (caught.value.code.name, caught.value.kind) == ("UNAVAILABLE", "toxiproxy_unreachable")


async def test_killed_in_mid_call_it_fails_the_call_at_once_and_recovers_fast(
    toxiproxy: ToxiproxyServer, toxiproxy_program: Path, upstream: CountingUpstream, deliveries: DeliveryLog
) -> None:
    slow = Latency(delay_ms=round(1000 * HANG_S))
    schedule = Schedule(prefix="k", rules=(Rule(kind=slow, when=Every(every=2)),))
    fault = Fault(id="k:1", site="hop", hop="tool", kind=slow)
    async with open_lanes(
        toxiproxy.address, hop="tool", upstream=upstream.address, schedule=schedule, deliveries=deliveries
    ) as channel:
        stub = tools_pb2_grpc.ToolServiceStub(channel)
        clean = next(
            proxy for proxy in ToxiproxyClient(toxiproxy.address).proxies().values() if "clean" in proxy.name
        )
        await stub.Call(tools_pb2.CallToolRequest(idempotency_key="before"), timeout=HANG_S)
        out = stub.Call(
            tools_pb2.CallToolRequest(idempotency_key="in flight"),
            timeout=HANG_S,
            metadata=((metadata.FAULT, fault.encode()),),
        )
        waiting = asyncio.ensure_future(out.code())
        await upstream.has_run("in flight")
        psutil.Process(toxiproxy.pid).kill()
        assert await waiting is grpc.StatusCode.UNAVAILABLE
        recovered_s, recoveries = math.inf, 0
        # Of these one is fast on any machine, and none with gRPC's default backoff, which needs 1.0 to 1.2 s.
        while recovered_s > 0.5 and recoveries < 20:
            for _ in range(20):  # enough failures in a row for a default backoff to have grown
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await stub.Call(tools_pb2.CallToolRequest(), timeout=HANG_S)
                assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
            async with await ToxiproxyServer.start(program=toxiproxy_program) as again:
                ToxiproxyClient(again.address).create_proxy(
                    "clean", upstream=upstream.address, listen=clean.listen
                )
                back_at = time.perf_counter()
                await stub.Call(
                    tools_pb2.CallToolRequest(idempotency_key="after"), timeout=HANG_S, wait_for_ready=True
                )
                recovered_s = time.perf_counter() - back_at
                recoveries += 1
        assert recovered_s <= 0.5
    assert upstream.ran == {"before": 1, "in flight": 1, "after": recoveries}

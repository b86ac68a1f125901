"""What each fault really does to a gRPC call, through a real toxiproxy server and a real grpc.aio server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from chaos.deliveries import DeliveryLog, read_deliveries
from chaos.faults import Bandwidth, Fault, FaultKind, Hop, Latency, Reset, Slicer, Stall, Status
from chaos.lanes import open_lanes
from chaos.schedule import Rule, Schedule
from chaos.toxiproxy import ToxiproxyClient, ToxiproxyServer
from chaos.when import Every
from tests.chaos.conftest import CountingUpstream, Serve
from tests.limits import HANG_S, longer_and_longer
from treni import metadata
from treni.errors import TreniError, from_rpc_error
from treni.v1 import inference_pb2, inference_pb2_grpc, tools_pb2, tools_pb2_grpc

pytestmark = pytest.mark.chaos

TIMEOUT_S = 0.5
"""Of a call whose stall lets it not be answered, whatever its time."""


def schedule_of(*kinds: FaultKind, hop: Hop = "tool") -> Schedule:
    return Schedule(prefix="t", hop=hop, rules=tuple(Rule(kind=kind, when=Every(every=7)) for kind in kinds))


def marked(key: str, kind: FaultKind | None, hop: Hop = "tool") -> tuple[tuple[str, str], ...]:
    pairs = ((metadata.RUN_ID, f"run-{key}"), (metadata.ATTEMPT, "1"))
    if kind is None:
        return pairs
    return (*pairs, (metadata.FAULT, Fault(id=f"t:{key}", site="hop", hop=hop, kind=kind).encode()))


async def outcome(
    channel: grpc.aio.Channel, key: str, kind: FaultKind | None, timeout_s: float = HANG_S
) -> str:
    """The name of the status that a call ends with."""
    request = tools_pb2.CallToolRequest(name="t", idempotency_key=key)
    try:
        await tools_pb2_grpc.ToolServiceStub(channel).Call(
            request, timeout=timeout_s, metadata=marked(key, kind)
        )
    except grpc.aio.AioRpcError as error:
        return error.code().name
    return "OK"


async def ran_and_was_lost(
    channel: grpc.aio.Channel, upstream: CountingUpstream, label: str, stall: Stall
) -> str:
    """The key of a call that ran and then reached its deadline: of the first that had time enough to run."""
    for timeout_s in longer_and_longer(TIMEOUT_S):
        key = f"{label}-{timeout_s:g}"
        assert await outcome(channel, key, stall, timeout_s) == "DEADLINE_EXCEEDED"
        if upstream.ran[key]:
            return key
    raise AssertionError


async def took_ms(call: Callable[[], Awaitable[Any]]) -> float:
    begun = time.perf_counter()
    await call()
    return (time.perf_counter() - begun) * 1000


async def one_is_faster(call: Callable[[], Awaitable[Any]], than_ms: float) -> None:
    """Calls until one took less than that: a busy machine's calls are slow too, but not every one."""
    while await took_ms(call) >= than_ms:
        pass


async def test_a_request_stall_never_runs_the_tool_not_even_after_teardown(
    toxiproxy: ToxiproxyServer, upstream: CountingUpstream, deliveries: DeliveryLog
) -> None:
    stall = Stall(direction="request")
    async with open_lanes(
        toxiproxy.address,
        hop="tool",
        upstream=upstream.address,
        schedule=schedule_of(stall),
        deliveries=deliveries,
    ) as channel:
        for number in range(3):
            assert await outcome(channel, f"s{number}", stall, TIMEOUT_S) == "DEADLINE_EXCEEDED"
        assert await outcome(channel, "clean", None) == "OK"
        assert upstream.ran == {"clean": 1}
    assert ToxiproxyClient(toxiproxy.address).proxies() == {}
    # What the proxy held would have arrived before a call that is made, and answered, after the teardown.
    async with grpc.aio.insecure_channel(upstream.address, options=list(metadata.CHANNEL_OPTIONS)) as direct:
        assert await outcome(direct, "after", None) == "OK"
    await toxiproxy.stop()
    async with grpc.aio.insecure_channel(upstream.address, options=list(metadata.CHANNEL_OPTIONS)) as direct:
        assert await outcome(direct, "last", None) == "OK"
    assert upstream.ran == {"clean": 1, "after": 1, "last": 1}


async def test_a_response_stall_runs_the_tool_and_loses_its_answer(
    toxiproxy: ToxiproxyServer, upstream: CountingUpstream, deliveries: DeliveryLog, deliveries_path: Path
) -> None:
    stall = Stall(direction="response")
    async with open_lanes(
        toxiproxy.address,
        hop="tool",
        upstream=upstream.address,
        schedule=schedule_of(stall),
        deliveries=deliveries,
    ) as channel:
        keys = [await ran_and_was_lost(channel, upstream, f"s{number}", stall) for number in range(3)]
        assert [upstream.ran[key] for key in keys] == [1, 1, 1]
    delivered = {row.fault_id: row for row in read_deliveries(deliveries_path)}
    for key in keys:
        row = delivered[f"t:{key}"]
        assert (row.how, row.run_id, row.attempt, row.kind) == ("lane", f"run-{key}", 1, "stall")


async def test_a_response_stall_outlives_the_servers_ping_timeout(
    toxiproxy: ToxiproxyServer, upstream: CountingUpstream, deliveries: DeliveryLog, serve_upstream: Serve
) -> None:
    """A server that probes bandwidth pings on each request; held with the answers, the ping is never acknowledged.

    The server closes such a connection after its ping timeout (a minute; half a second here), and from then on
    the lane would stall requests before the tool. Without probes, as our server options have it, it does not ping.
    """
    stall = Stall(direction="response")
    options = (("grpc.http2.ping_timeout_ms", 500),)
    async with (
        serve_upstream(upstream, deliveries, *options),
        open_lanes(
            toxiproxy.address,
            hop="tool",
            upstream=upstream.address,
            schedule=schedule_of(stall),
            deliveries=deliveries,
        ) as channel,
    ):
        for number in range(4):
            key = await ran_and_was_lost(channel, upstream, f"s{number}", stall)
            assert upstream.ran[key] == 1


async def test_a_lane_takes_any_number_of_stalls_and_large_answers(
    toxiproxy: ToxiproxyServer, upstream: CountingUpstream, deliveries: DeliveryLog
) -> None:
    """More bytes held than HTTP/2's windows hold: the tool runs all the same, and the clean lane does not notice."""
    stall = Stall(direction="response")
    upstream.answer_bytes = 20_000
    async with open_lanes(
        toxiproxy.address,
        hop="tool",
        upstream=upstream.address,
        schedule=schedule_of(stall),
        deliveries=deliveries,
    ) as channel:
        for start in range(0, 48, 16):
            numbers = range(start, start + 16)
            stalled = [asyncio.create_task(outcome(channel, f"s{number}", stall)) for number in numbers]
            for number in numbers:
                await upstream.has_run(f"s{number}")
            clean = await asyncio.gather(*(outcome(channel, f"c{number}", None) for number in numbers))
            assert clean == ["OK"] * 16
            assert not any(call.done() for call in stalled)
            for call in stalled:
                call.cancel()
            await asyncio.wait(stalled)
    assert upstream.ran == {f"{label}{number}": 1 for label in "sc" for number in range(48)}


async def test_at_concurrency_16_each_attempt_gets_its_own_fault_and_no_other(
    toxiproxy: ToxiproxyServer, upstream: CountingUpstream, deliveries: DeliveryLog
) -> None:
    before, after, status, reset = Stall(direction="request"), Stall(direction="response"), Status(), Reset()
    kinds = [before, after, None, status, None, reset, None, None]
    expected = [
        "DEADLINE_EXCEEDED",
        "lost",
        "OK",
        "UNAVAILABLE",
        "OK",
        "UNAVAILABLE",
        "OK",
        "OK",
    ]
    gate = asyncio.Semaphore(16)

    async def one(channel: grpc.aio.Channel, number: int) -> tuple[str, str]:
        key, kind = str(number), kinds[number % 8]
        async with gate:
            if kind is after:
                return key, await lost(channel, key)
            return key, await outcome(channel, key, kind, TIMEOUT_S if kind is before else HANG_S)

    async def lost(channel: grpc.aio.Channel, key: str) -> str:
        """ "lost" where the call ran and is not answered while another one is."""
        call = asyncio.create_task(outcome(channel, key, after))
        await upstream.has_run(key)
        await outcome(channel, f"beside {key}", None)
        if call.done():
            return await call
        call.cancel()
        return "lost"

    async with open_lanes(
        toxiproxy.address,
        hop="tool",
        upstream=upstream.address,
        schedule=schedule_of(before, after, status, reset),
        deliveries=deliveries,
    ) as channel:
        outcomes = dict(await asyncio.gather(*(one(channel, number) for number in range(128))))
    assert outcomes == {str(number): expected[number % 8] for number in range(128)}
    runs = {str(number): 1 for number in range(128) if kinds[number % 8] in (None, after)}
    beside = {f"beside {number}": 1 for number in range(128) if kinds[number % 8] is after}
    assert upstream.ran == runs | beside


async def test_a_status_fault_names_itself_and_is_definite(
    toxiproxy: ToxiproxyServer, upstream: CountingUpstream, deliveries: DeliveryLog, deliveries_path: Path
) -> None:
    status = Status(code="RESOURCE_EXHAUSTED")
    async with open_lanes(
        toxiproxy.address,
        hop="tool",
        upstream=upstream.address,
        schedule=schedule_of(status),
        deliveries=deliveries,
    ) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await tools_pb2_grpc.ToolServiceStub(channel).Call(
                tools_pb2.CallToolRequest(), timeout=HANG_S, metadata=marked("f", status)
            )
    error = from_rpc_error(caught.value, hop="tool")
    assert (error.code.name, error.kind, error.definite, error.fault_id) == (
        "RESOURCE_EXHAUSTED",
        "injected_status",
        True,
        "t:f",
    )
    assert upstream.ran == {}
    assert [(row.fault_id, row.how) for row in read_deliveries(deliveries_path)] == [("t:f", "injector")]


async def test_a_reset_is_a_real_one_fails_at_once_and_proves_nothing(
    toxiproxy: ToxiproxyServer, upstream: CountingUpstream, deliveries: DeliveryLog
) -> None:
    async with open_lanes(
        toxiproxy.address,
        hop="tool",
        upstream=upstream.address,
        schedule=schedule_of(Reset()),
        deliveries=deliveries,
    ) as channel:
        for number in range(10):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await tools_pb2_grpc.ToolServiceStub(channel).Call(
                    tools_pb2.CallToolRequest(idempotency_key=str(number)),
                    timeout=HANG_S,
                    metadata=marked("r", Reset()),
                )
            error = from_rpc_error(caught.value, hop="tool")
            assert (error.code.name, error.definite) == ("UNAVAILABLE", False)
        proxies = ToxiproxyClient(toxiproxy.address).proxies().values()
        port = next(proxy.listen for proxy in proxies if "reset" in proxy.name).rpartition(":")[2]
        reader, writer = await asyncio.open_connection("127.0.0.1", int(port))
        writer.write(b"PRI * HTTP/2.0")
        with pytest.raises(ConnectionResetError):  # RST; a FIN would read as an end of file
            await reader.read()
        writer.close()
        assert await outcome(channel, "clean", None) == "OK"
    assert upstream.ran == {"clean": 1}


async def test_latency_adds_its_delay_and_the_clean_lane_none(
    toxiproxy: ToxiproxyServer, upstream: CountingUpstream, deliveries: DeliveryLog
) -> None:
    latency = Latency(delay_ms=60)
    async with open_lanes(
        toxiproxy.address,
        hop="tool",
        upstream=upstream.address,
        schedule=schedule_of(latency),
        deliveries=deliveries,
    ) as channel:
        await one_is_faster(lambda: outcome(channel, "c", None), 60)
        slow_ms = [await took_ms(lambda: outcome(channel, "l", latency)) for _ in range(20)]
        await one_is_faster(lambda: outcome(channel, "c", None), 60)
    assert upstream.ran["l"] == 20
    assert min(slow_ms) >= 60


async def test_bandwidth_and_slicing_slow_a_large_answer(
    toxiproxy: ToxiproxyServer, upstream: CountingUpstream, deliveries: DeliveryLog
) -> None:
    bandwidth, slicer = Bandwidth(rate_kb_s=200), Slicer(average_size_bytes=1000, delay_us=1500)
    upstream.answer_bytes = 50_000
    async with open_lanes(
        toxiproxy.address,
        hop="tool",
        upstream=upstream.address,
        schedule=schedule_of(bandwidth, slicer),
        deliveries=deliveries,
    ) as channel:
        await one_is_faster(lambda: outcome(channel, "c", None), 60)
        bandwidth_ms = [await took_ms(lambda: outcome(channel, "b", bandwidth)) for _ in range(5)]
        slicer_ms = [await took_ms(lambda: outcome(channel, "s", slicer)) for _ in range(5)]
        await one_is_faster(lambda: outcome(channel, "c", None), 60)
    assert (upstream.ran["b"], upstream.ran["s"]) == (5, 5)
    assert min(bandwidth_ms) > 200  # 50 kB at 200 kB/s take 250 ms
    assert min(slicer_ms) > 60  # 50 slices or more, 1.5 ms apart


async def test_the_model_hop_streams_through_its_lanes(
    toxiproxy: ToxiproxyServer, upstream: CountingUpstream, deliveries: DeliveryLog
) -> None:
    stall = Stall(direction="response")

    async def generate(
        channel: grpc.aio.Channel, key: str, kind: FaultKind | None, timeout_s: float = HANG_S
    ) -> str:
        stream = inference_pb2_grpc.InferenceServiceStub(channel).Generate(
            inference_pb2.GenerateRequest(cache_key=key),
            timeout=timeout_s,
            metadata=marked(key, kind, hop="model"),
        )
        return "".join([chunk.text async for chunk in stream])

    async with open_lanes(
        toxiproxy.address,
        hop="model",
        upstream=upstream.address,
        schedule=schedule_of(stall, hop="model"),
        deliveries=deliveries,
    ) as channel:
        assert await generate(channel, "clean", None) == "a b c"
        for timeout_s in longer_and_longer(TIMEOUT_S):
            key = f"stalled-{timeout_s:g}"
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await generate(channel, key, stall, timeout_s)
            assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            if upstream.ran[key]:
                break
    assert upstream.ran[key] == 1


async def test_a_fault_without_a_lane_is_refused_before_anything_is_sent(
    toxiproxy: ToxiproxyServer, upstream: CountingUpstream, deliveries: DeliveryLog
) -> None:
    async with open_lanes(
        toxiproxy.address,
        hop="tool",
        upstream=upstream.address,
        schedule=schedule_of(Stall(direction="request"), hop="model"),
        deliveries=deliveries,
    ) as channel:
        proxies = ToxiproxyClient(toxiproxy.address).proxies().values()
        assert [(proxy.name.split("-")[:2], proxy.upstream) for proxy in proxies] == [
            (["tool", "clean"], upstream.address)
        ]
        with pytest.raises(TreniError, match="a fault that the schedule puts on the tool hop"):
            await outcome(channel, "x", Stall(direction="request"))
        assert await outcome(channel, "clean", None) == "OK"
    assert upstream.ran == {"clean": 1}


async def test_lanes_on_a_dead_upstream_or_server_say_so_and_leave_nothing(
    toxiproxy: ToxiproxyServer,
    upstream: CountingUpstream,
    deliveries: DeliveryLog,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("chaos.lanes.WARM_TIMEOUT_S", 0.3)
    with pytest.raises(TreniError) as caught:
        async with open_lanes(
            toxiproxy.address, hop="tool", upstream="127.0.0.1:1", schedule=None, deliveries=deliveries
        ):
            pytest.fail("opened")
    assert caught.value.kind == "lane_not_warm"
    assert ToxiproxyClient(toxiproxy.address).proxies() == {}
    await toxiproxy.stop()
    with pytest.raises(TreniError) as caught:
        async with open_lanes(
            toxiproxy.address, hop="tool", upstream=upstream.address, schedule=None, deliveries=deliveries
        ):
            pytest.fail("opened")
    assert caught.value.kind == "toxiproxy_unreachable"

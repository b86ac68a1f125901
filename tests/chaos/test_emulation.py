"""A network that the proxies of a hop make it be like: on every lane, both ways, through a real server."""

from __future__ import annotations

import asyncio

import pytest
import requests

from chaos.deliveries import DeliveryLog
from chaos.emulation import joined, toxics
from chaos.faults import Latency, Stall, Toxic
from chaos.lanes import open_lanes
from chaos.toxiproxy import ToxiproxyServer
from tests.chaos.conftest import CountingUpstream
from tests.chaos.test_lanes import one_is_faster, outcome, schedule_of, took_ms

RTT_MS, JITTER_MS = 67, 3


@pytest.mark.parametrize(("rtt_ms", "jitter_ms"), [(67, 3), (2, 0), (1, 0), (15, 1)])
def test_each_way_takes_half_of_what_was_declared(rtt_ms: int, jitter_ms: int) -> None:
    there, back = toxics(rtt_s=rtt_ms / 1000, jitter_s=jitter_ms / 1000)
    assert (there.stream, back.stream) == ("upstream", "downstream")
    assert (there.name, back.name) == ("network_upstream", "network_downstream")
    assert 0 <= back.attributes["latency"] - there.attributes["latency"] <= 1
    assert there.attributes["latency"] + back.attributes["latency"] == rtt_ms
    assert there.attributes["jitter"] + back.attributes["jitter"] == jitter_ms
    assert all(one.attributes["jitter"] <= one.attributes["latency"] for one in (there, back))


def test_who_is_late_the_same_way_twice_is_late_once_by_both() -> None:
    there, back = toxics(rtt_s=0.067, jitter_s=0.003)
    late = Toxic(type="latency", stream="downstream", attributes={"latency": 80, "jitter": 5})
    cut = Toxic(type="slicer", stream="downstream", attributes={"average_size": 10})
    both = Toxic(type="latency", stream="downstream", attributes={"latency": 114, "jitter": 7})
    assert joined((there, back), (late,)) == (there, both)
    assert joined((there, back), (cut,)) == (there, back, cut)
    assert joined((), (late,)) == (late,)
    assert joined((there, back), ()) == (there, back)


@pytest.mark.chaos
async def test_every_lane_is_as_slow_and_a_fault_comes_on_top(
    toxiproxy: ToxiproxyServer, upstream: CountingUpstream, deliveries: DeliveryLog
) -> None:
    late, stall = Latency(delay_ms=80), Stall(direction="response")
    async with open_lanes(
        toxiproxy.address,
        hop="tool",
        upstream=upstream.address,
        schedule=schedule_of(late, stall),
        deliveries=deliveries,
        network=toxics(rtt_s=RTT_MS / 1000, jitter_s=JITTER_MS / 1000),
    ) as channel:
        told = await asyncio.to_thread(requests.get, f"http://{toxiproxy.address}/proxies", timeout=60)
        proxies = told.json()
        named = {
            name.split("-")[1]: {toxic["name"] for toxic in one["toxics"]} for name, one in proxies.items()
        }
        network = {"network_upstream", "network_downstream"}
        assert named == {
            "clean": network,
            "latency": {"network_upstream", "latency_downstream"},
            "stall": {"network_upstream", "latency_downstream"},
        }
        least_ms = RTT_MS - JITTER_MS
        for n in range(5):
            assert await took_ms(lambda n=n: outcome(channel, f"clean-{n}", None)) >= least_ms  # type: ignore[misc]
            assert await took_ms(lambda n=n: outcome(channel, f"late-{n}", late)) >= least_ms + 80  # type: ignore[misc]
        # And no slower: what is sent in one go is late once.
        await one_is_faster(lambda: outcome(channel, "quick", None), than_ms=2 * RTT_MS)
    assert sum(upstream.ran.values()) >= 11

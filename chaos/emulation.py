"""A network between two places of one machine: latency on each connection of a hop, by proxies that it has anyway."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from chaos.faults import Toxic
from treni.errors import invalid_argument

_MS = 1000


def refuse_unlike(name: str, *, rtt_s: float, jitter_s: float, loss: float) -> None:
    """Raises INVALID_ARGUMENT for a network that proxies can't be like: they delay by whole ms, and lose nothing."""
    if loss > 0:
        raise invalid_argument(
            "emulation_loss",
            expected=f"an emulated network that loses no packets, as {name} does",
            got=f"a loss of {loss:.3g}",
            todo="proxies see no packets: run on hosts with such a line between them (--topology hosts.toml, or "
            "network namespaces and iptables), or choose a network without loss",
        )
    for what, value_s in (("a round trip", rtt_s), ("a jitter", jitter_s)):
        if abs(value_s * _MS - round(value_s * _MS)) > 1e-6:
            raise invalid_argument(
                "emulation_too_fine",
                expected=f"{what} of whole milliseconds in {name}, by which the proxies delay",
                got=f"{value_s * _MS:g} ms",
                todo="choose another network, or run on hosts that are so far apart",
            )


def toxics(*, rtt_s: float, jitter_s: float) -> tuple[Toxic, ...]:
    """What makes a connection's round trip so much longer: half of it each way, the odd millisecond on the way back.

    Whatever follows on a way within one burst is late together; the jitter is drawn for each chunk.
    """
    rtt_ms, jitter_ms = round(rtt_s * _MS), round(jitter_s * _MS)
    there = (rtt_ms // 2, jitter_ms // 2)
    back = (rtt_ms - there[0], jitter_ms - there[1])
    return (
        Toxic(type="latency", stream="upstream", attributes=_late(*there), role="network"),
        Toxic(type="latency", stream="downstream", attributes=_late(*back), role="network"),
    )


def joined(network: Sequence[Toxic], fault: Sequence[Toxic]) -> tuple[Toxic, ...]:
    """The toxics of a lane with a network and a fault: where both delay the same way, one toxic delays by both.

    Of two in a row toxiproxy takes off twice what the proxy itself was late with a chunk, so that on a busy machine an
    answer came before the sum of its delays.
    """
    late = {toxic.stream: toxic for toxic in network}
    toxics = []
    for toxic in fault:
        if toxic.type == "latency" and toxic.stream in late:
            way = late.pop(toxic.stream).attributes
            toxic = replace(toxic, attributes={key: toxic.attributes[key] + way[key] for key in way})
        toxics.append(toxic)
    return (*late.values(), *toxics)


def _late(latency_ms: int, jitter_ms: int) -> dict[str, int]:
    return {"latency": latency_ms, "jitter": jitter_ms}

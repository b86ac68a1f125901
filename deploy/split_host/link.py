"""What crossed the link while a campaign ran, hop by hop, in a file beside its manifest."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from deploy.namespaces.making import Hosts
from deploy.namespaces.switch import Flow, Traffic
from matrices.evidence import chain
from matrices.evidence.kept import HISTORY, MANIFEST
from treni.errors import Code, TreniError
from treni.storage import write_whole

LINK_FILE = "link.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class HopPlace:
    """A hop: from which host to which port of which host it goes."""

    hop: str
    caller: str
    server: str
    port: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Crossing:
    """What of one hop crossed the link, in either direction; nothing for a hop within one host."""

    hop: str
    caller: str
    server: str
    packets_to: int
    bytes_to: int
    packets_back: int
    bytes_back: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Counted:
    """The counters of the switch at one moment."""

    traffic: dict[str, Traffic]
    flows: tuple[Flow, ...]

    @classmethod
    def now(cls, hosts: Hosts) -> Counted:
        """The counters as they are."""
        return cls(traffic=hosts.switch.traffic(), flows=hosts.switch.flows())

    def of(self, caller: str, server: str, port: int) -> Flow:
        """The counters between two addresses; nothing where nothing went."""
        for flow in self.flows:
            if (flow.caller, flow.server, flow.port) == (caller, server, port):
                return flow
        none = {"packets_to": 0, "bytes_to": 0, "packets_back": 0, "bytes_back": 0}
        return Flow(caller=caller, server=server, port=port, **none)


def crossings(
    hosts: Hosts, places: Iterable[HopPlace], before: Counted, after: Counted
) -> tuple[Crossing, ...]:
    """What of each hop crossed the link between two moments."""
    found = []
    for place in places:
        key = (hosts[place.caller].address, hosts[place.server].address, place.port)
        begun, ended = before.of(*key), after.of(*key)
        found.append(
            Crossing(
                hop=place.hop,
                caller=place.caller,
                server=place.server,
                packets_to=ended.packets_to - begun.packets_to,
                bytes_to=ended.bytes_to - begun.bytes_to,
                packets_back=ended.packets_back - begun.packets_back,
                bytes_back=ended.bytes_back - begun.bytes_back,
            )
        )
    return tuple(found)


def write_link(folder: Path, found: Iterable[Crossing], before: Counted, after: Counted) -> None:
    """Writes the file, with the digests of the manifest beside it and of the history that it belongs to."""
    record = {
        "manifest_sha256": chain.digest((folder / MANIFEST).read_bytes()),
        "history_sha256": chain.digest((folder / HISTORY).read_bytes()),
        "hops": [dataclasses.asdict(one) for one in found],
        "before": dataclasses.asdict(before),
        "after": dataclasses.asdict(after),
    }
    write_whole(folder / LINK_FILE, json.dumps(record, indent=2).encode() + b"\n")


def refuse_uncrossed(found: Iterable[Crossing]) -> None:
    """Raises FAILED_PRECONDITION unless packets of each hop between two hosts crossed, and of no other hop."""
    for one in found:
        crossed = one.packets_to > 0 and one.packets_back > 0
        if crossed is (one.caller == one.server):
            raise TreniError(
                Code.FAILED_PRECONDITION,
                "link_not_crossed",
                expected=f"packets of {one.hop} from {one.caller} to {one.server} "
                + ("to stay off the link" if crossed else "to cross the link both ways"),
                got=f"{one.packets_to} there, {one.packets_back} back",
                todo="report this: the services are not where the file of hosts says",
            )

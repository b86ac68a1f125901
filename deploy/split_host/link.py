"""What crossed the link while a campaign ran, hop by hop, in the file beside its manifest that the manifest names."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from deploy.namespaces.making import Hosts
from deploy.namespaces.switch import Flow, Traffic
from deploy.split_host.services import CLIENT, LINK_FILE, SERVICE_PORTS
from matrices.evidence import chain
from matrices.evidence.campaign import HISTORY, MANIFEST
from treni.errors import Code, TreniError
from treni.storage import write_whole

HOPS = (
    ("the client's call, internal arm", "", "agent"),
    ("the client's call, external arm", "", "controller"),
    ("model hop", "controller", "agent"),
    ("tool hop", "controller", "tools"),
)
"""Each hop: what it is called, the role that calls ("" for the harness), and the role that serves."""


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

    def of(self, key: tuple[str, str, int]) -> Flow:
        """The counters of one caller, server and port."""
        for flow in self.flows:
            if (flow.caller, flow.server, flow.port) == key:
                return flow
        caller, server, port = key
        none = {"packets_to": 0, "bytes_to": 0, "packets_back": 0, "bytes_back": 0}
        return Flow(caller=caller, server=server, port=port, **none)


def crossings(
    hosts: Hosts, placement: Mapping[str, str], before: Counted, after: Counted
) -> tuple[Crossing, ...]:
    """What crossed the link of each hop between two moments. The noise floor's second agent is no hop of it."""
    return tuple(
        _crossing(
            hosts, hop, placement.get(caller, CLIENT), placement[server], SERVICE_PORTS[server], before, after
        )
        for hop, caller, server in HOPS
    )


def _crossing(
    hosts: Hosts, hop: str, caller: str, server: str, port: int, before: Counted, after: Counted
) -> Crossing:
    key = (hosts[caller].address, hosts[server].address, port)
    begun, ended = before.of(key), after.of(key)
    return Crossing(
        hop=hop,
        caller=caller,
        server=server,
        packets_to=ended.packets_to - begun.packets_to,
        bytes_to=ended.bytes_to - begun.bytes_to,
        packets_back=ended.packets_back - begun.packets_back,
        bytes_back=ended.bytes_back - begun.bytes_back,
    )


def write_link(folder: Path, found: tuple[Crossing, ...], before: Counted, after: Counted) -> None:
    """Writes the file, with the digests of the manifest that names it and of the history that it belongs to."""
    record = {
        "manifest_sha256": chain.digest((folder / MANIFEST).read_bytes()),
        "history_sha256": chain.digest((folder / HISTORY).read_bytes()),
        "hops": [dataclasses.asdict(one) for one in found],
        "before": dataclasses.asdict(before),
        "after": dataclasses.asdict(after),
    }
    write_whole(folder / LINK_FILE, json.dumps(record, indent=2).encode() + b"\n")


def refuse_uncrossed(found: tuple[Crossing, ...]) -> None:
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

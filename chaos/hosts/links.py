"""Faults of a host's links: nftables rules for the packets of named services, and for nothing else.

Each fault is one table of its own, so that undoing it is one command, and two never meet. Packets over the loopback
device are left alone: between two processes of a host there is no link.
"""

from __future__ import annotations

import ipaddress
import json
import os
import secrets
import shutil
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from chaos.hosts.commands import run
from chaos.hosts.guard import Guard
from chaos.hosts.relay import FIRST_TABLE, Relay
from treni.errors import Code, TreniError

_MILLION = 1_000_000
NFT = "nft"


@dataclass(frozen=True, kw_only=True, slots=True)
class End:
    """Where a service of this host answers: the packets of faults are told by both."""

    address: str
    port: int

    @classmethod
    def of(cls, address: str) -> End:
        """The end that "host:port" names."""
        host, _, port = address.rpartition(":")
        return cls(address=host.strip("[]"), port=int(port))

    @property
    def family(self) -> str:
        """The word for its addresses: "ip" or "ip6"; "" for a name, which no rule can match."""
        try:
            return "ip6" if ipaddress.ip_address(self.address).version == 6 else "ip"
        except ValueError:
            return ""


class Met:
    """How many packets faults have met so far."""

    def __init__(self) -> None:
        self.packets = 0


def links_refusal() -> TreniError | None:
    """Why no link of this host can be faulted; None where they can."""
    missing = [name for name in (NFT, "ip") if shutil.which(name) is None]
    if os.geteuid() == 0 and not missing:
        return None
    got = f"no {' and no '.join(missing)}" if missing else "a user who may not change packet filters"
    return TreniError(
        Code.FAILED_PRECONDITION,
        "fault_not_here",
        expected="root and the commands nft and ip on the host whose link is faulted",
        got=got,
        todo="install nftables and iproute2, and run `treni-route serve host` as root",
    )


@asynccontextmanager
async def dropped(
    ends: Collection[End], *, requests: float, answers: float, guard: Guard, met: Met
) -> AsyncIterator[None]:
    """Loses these shares of the packets that arrive for the ends, and leave from them, while the block runs."""
    name = f"treni_{secrets.token_hex(6)}"
    lines = [f"table inet {name} {{", "counter met { }"]
    for chain, hook, share, way in (
        ("requests", "input", requests, "d"),
        ("answers", "output", answers, "s"),
    ):
        lines += [f"chain {chain} {{", f"type filter hook {hook} priority -300; policy accept;"]
        for match in _matches(ends, hook, way) if share > 0 else ():
            draw = "" if share >= 1 else f"numgen random mod {_MILLION} < {round(share * _MILLION)} "
            lines.append(f"{match} counter name met {draw}drop")
        lines.append("}")
    async with _table(name, [*lines, "}"], guard, met):
        yield


@asynccontextmanager
async def delayed(
    ends: Collection[End], *, delay_s: float, jitter_s: float, guard: Guard, met: Met
) -> AsyncIterator[None]:
    """The packets that leave from the ends held for `delay_s`, give or take `jitter_s`, while the block runs.

    They are marked, by their mark routed into a relay, and sent again by that under another mark.
    """
    for end in ends:
        if end.family == "ip6":
            raise TreniError(
                Code.FAILED_PRECONDITION,
                "fault_not_here",
                expected="a service at an IPv4 address, whose packets a relay can send again",
                got=end.address,
                todo="start it with --host and such an address",
            )
    name, mark = f"treni_{secrets.token_hex(6)}", FIRST_TABLE + secrets.randbelow(1 << 16)
    lines = [f"table inet {name} {{", "counter met { }", "chain answers {"]
    lines.append("type route hook output priority mangle; policy accept;")
    for match in _matches(ends, "output", "s"):
        lines.append(f"{match} meta mark 0 counter name met meta mark set {mark}")
    async with (
        Relay.opened(mark=mark, delay_s=delay_s, jitter_s=jitter_s, guard=guard),
        _table(name, [*lines, "}", "}"], guard, met),
    ):
        yield


def _matches(ends: Collection[End], hook: str, way: str) -> Iterator[str]:
    device = "iifname" if hook == "input" else "oifname"
    for end in ends:
        if end.family == "":
            raise TreniError(
                Code.FAILED_PRECONDITION,
                "fault_not_here",
                expected="a service at an IP address, whose packets a rule can tell",
                got=end.address,
                todo="start it with --host and an address",
            )
        yield f'{device} != "lo" {end.family} {way}addr {end.address} tcp {way}port {end.port}'


@asynccontextmanager
async def _table(name: str, lines: list[str], guard: Guard, met: Met) -> AsyncIterator[None]:
    await guard.undo_with([NFT, "delete", "table", "inet", name])
    await run([NFT, "-f", "-"], "\n".join(lines))
    try:
        yield
    finally:
        met.packets += await _packets(name)
        await run([NFT, "delete", "table", "inet", name])


async def _packets(table: str) -> int:
    listed = json.loads(await run([NFT, "-j", "list", "counter", "inet", table, "met"]))
    return sum(one["counter"]["packets"] for one in listed["nftables"] if "counter" in one)

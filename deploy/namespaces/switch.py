"""What crosses the link between hosts made of namespaces, as the switch that joins them counts it."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from treni.errors import Code, TreniError

BRIDGE = "bridge"
"""The name of the bridge among the switch's interfaces; no host has it."""

# A set of nftables that packets fill in, with a counter for each pair of hosts and port of the one that serves.
_RULES = """
table bridge treni {{
  set to {{ type ipv4_addr . ipv4_addr . inet_service; size 65535; flags dynamic; counter; }}
  set back {{ type ipv4_addr . ipv4_addr . inet_service; size 65535; flags dynamic; counter; }}
  chain crossing {{
    type filter hook forward priority 0; policy accept;
    tcp dport {first}-{last} add @to {{ ip saddr . ip daddr . tcp dport }}
    tcp sport {first}-{last} add @back {{ ip daddr . ip saddr . tcp sport }}
  }}
}}
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Traffic:
    """What a host sent over the link and received since it began.

    The kernel cuts packets to a link's size for real links only: here one may be as large as 64 KiB.
    """

    sent_packets: int
    sent_bytes: int
    received_packets: int
    received_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Flow:
    """What crossed the link between one host and a port of another, by their addresses, in either direction."""

    caller: str
    server: str
    port: int
    packets_to: int
    bytes_to: int
    packets_back: int
    bytes_back: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Switch:
    """The namespace with the bridge, by the process that holds it."""

    pid: int

    def traffic(self) -> dict[str, Traffic]:
        """What each host sent and received, by its name. A host that was killed has no end of the link any more."""
        # A port is called as its host; what it receives the host has sent.
        rows = Path(f"/proc/{self.pid}/net/dev").read_text(encoding="ascii").splitlines()[2:]
        split = (row.partition(":") for row in rows)
        counted = {name.strip(): [int(field) for field in fields.split()] for name, _, fields in split}
        return {
            name: Traffic(
                sent_bytes=fields[0],
                sent_packets=fields[1],
                received_bytes=fields[8],
                received_packets=fields[9],
            )
            for name, fields in counted.items()
            if name not in (BRIDGE, "lo")
        }

    def count(self, first: int, last: int) -> None:
        """Has `flows` tell of TCP ports `first` to `last` from now on. Raises FAILED_PRECONDITION without nftables."""
        self._nft("-f", "-", rules=_RULES.format(first=first, last=last))

    def flows(self) -> tuple[Flow, ...]:
        """What crossed the link to and from each port that is counted, since `count`."""
        to, back = self._counted("to"), self._counted("back")
        return tuple(
            _flow(key, to.get(key, (0, 0)), back.get(key, (0, 0))) for key in sorted(to.keys() | back.keys())
        )

    def _counted(self, name: str) -> dict[tuple[str, str, int], tuple[int, int]]:
        """Packets and bytes of each element of the set, by the two addresses and the port."""
        told: dict[str, Any] = json.loads(self._nft("-j", "list", "set", "bridge", "treni", name))
        (listed,) = (one["set"] for one in told["nftables"] if "set" in one)
        elements = (one["elem"] for one in listed.get("elem", []))
        return {
            (one["val"]["concat"][0], one["val"]["concat"][1], one["val"]["concat"][2]): (
                one["counter"]["packets"],
                one["counter"]["bytes"],
            )
            for one in elements
        }

    def _nft(self, *arguments: str, rules: str = "") -> str:
        try:
            done = subprocess.run(
                ["nsenter", "--target", str(self.pid), "--net", "--", "nft", *arguments],
                input=rules,
                capture_output=True,
                text=True,
                check=False,
            )
        except OSError as error:
            raise _no_counters(str(error)) from None
        if done.returncode != 0:
            raise _no_counters(done.stderr.strip())
        return done.stdout


def _flow(key: tuple[str, str, int], to: tuple[int, int], back: tuple[int, int]) -> Flow:
    caller, server, port = key
    return Flow(
        caller=caller,
        server=server,
        port=port,
        packets_to=to[0],
        bytes_to=to[1],
        packets_back=back[0],
        bytes_back=back[1],
    )


def _no_counters(got: str) -> TreniError:
    return TreniError(
        Code.FAILED_PRECONDITION,
        "no_link_counters",
        expected="nft to count what crosses the link, in a kernel that has nftables for bridges",
        got=got,
        todo="install it, such as by `apt-get install nftables`",
    )

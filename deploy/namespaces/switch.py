"""What crosses the link between hosts made of namespaces, as the switch that joins them counts it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


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
class Switch:
    """The namespace with the bridge, by the process that holds it."""

    pid: int

    def traffic(self) -> dict[str, Traffic]:
        """What each host sent and received, by its name. A host that was killed has no end of the link any more."""
        # A port is called as its host; what it receives the host has sent.
        rows = Path(f"/proc/{self.pid}/net/dev").read_text(encoding="ascii").splitlines()[2:]
        counted = {
            name.strip(): [int(field) for field in fields.split()] for name, _, fields in map(_split, rows)
        }
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


BRIDGE = "bridge"
"""The name of the bridge among the switch's interfaces; no host has it."""


def _split(row: str) -> tuple[str, str, str]:
    return row.partition(":")

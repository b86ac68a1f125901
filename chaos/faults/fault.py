"""A fault: a kind placed on one attempt, as it travels in gRPC metadata."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import get_args

from chaos.faults.kind import FaultKind, Hop, Refusal, Site
from chaos.faults.registry import invalid, kind_from_dict, kind_to_dict
from treni import metadata

MAX_ENCODED_BYTES = 1024
"""Longer metadata values are refused unread."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """A kind placed on one attempt: `id` is readable and unique to it, `site` and `hop` say where it strikes."""

    id: str
    site: Site
    hop: Hop
    kind: FaultKind

    def __post_init__(self) -> None:
        if not isinstance(self.id, str) or not self.id or not self.id.isascii() or not self.id.isprintable():
            raise invalid("a fault id of printable ASCII", repr(self.id))
        _one_of("site", self.site, get_args(Site))
        _one_of("hop", self.hop, get_args(Hop))
        if self.site not in self.kind.sites:
            raise invalid(f"{self.kind.name} at site {sorted(self.kind.sites)}", f"site {self.site!r}")
        if self.site == "tool" and self.hop != "tool":
            raise invalid('hop "tool" where the site is "tool"', repr(self.hop))

    @property
    def refusal(self) -> Refusal | None:
        """The refusal by the server behind the hop; None where somebody else delivers the fault."""
        delivery = self.kind.on_hop() if self.site == "hop" else None
        return delivery if isinstance(delivery, Refusal) else None

    def how(self, *, in_process: bool) -> str:
        """The layer that hands it out: "lane", "injector", "host", or "in-process" where the caller has the tool."""
        if self.site == "host":
            return "host"
        if self.site == "tool":
            return "in-process" if in_process else "injector"
        return "lane" if self.refusal is None else "injector"

    def encode(self) -> str:
        """The compact JSON that `treni.metadata.FAULT` carries."""
        data = {"id": self.id, "site": self.site, "hop": self.hop, **kind_to_dict(self.kind)}
        return json.dumps(data, separators=(",", ":"))

    def to_metadata(self) -> dict[str, str]:
        """The gRPC metadata that marks an attempt with this fault."""
        return {metadata.FAULT: self.encode()}


def decode(value: str | bytes) -> Fault:
    """The fault in a metadata value. Raises INVALID_ARGUMENT on anything `Fault.encode` does not write."""
    if len(value) > MAX_ENCODED_BYTES:
        raise invalid(f"at most {MAX_ENCODED_BYTES} bytes", f"{len(value)}")
    try:
        data = json.loads(value)
    except (ValueError, RecursionError) as error:
        raise invalid("a fault as compact JSON", f"{value!r}: {error}") from None
    if not isinstance(data, dict):
        raise invalid("a JSON object", repr(data))
    placed = {key: data.pop(key, None) for key in ("id", "site", "hop")}
    return Fault(kind=kind_from_dict(data), **placed)


def fault_of(pairs: Mapping[str, str | bytes]) -> Fault | None:
    """The fault in an attempt's metadata, None where there is none. Raises INVALID_ARGUMENT if it is broken."""
    value = pairs.get(metadata.FAULT)
    return None if value is None else decode(value)


def _one_of(field: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise invalid(f'"{field}" to be one of {", ".join(allowed)}', repr(value))

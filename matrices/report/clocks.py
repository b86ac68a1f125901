"""How the clocks of the roles lay to the harness's over a cell, for roles that run elsewhere."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from matrices.evidence.events import Clock, Event
from matrices.evidence.history import state_of
from matrices.evidence.manifest import Manifest


@dataclass(frozen=True, kw_only=True, slots=True)
class RoleClock:
    """One role's clock at the start of the cell's last processes, and what it gained on the harness's until the end.

    `offset_s` is known to `error_s`, and so is the wall clock at any moment; the shortest way there and back took twice
    that. `drift_ppm`, by the monotonic clocks, is known to `drift_error_ppm`; both None where the end is not known.
    """

    role: str
    machine: str
    offset_s: float
    error_s: float
    drift_ppm: float | None
    drift_error_ppm: float | None


def clocks_of(manifest: Manifest, events: Iterable[Event], cell: str) -> tuple[RoleClock, ...]:
    """The clocks of the cell's roles; none where the harness started them itself, on its own machine."""
    hosts = manifest.details.get("hosts", {})
    state = state_of(events).get(cell)
    if not hosts or state is None or not state.starts:
        return ()
    ended = {} if state.ended is None else state.ended.clocks
    return tuple(
        _of_role(role, str(hosts.get(role, {}).get("machine", "")), clock, ended.get(role))
        for role, clock in state.starts[-1].clocks.items()
    )


def _of_role(role: str, machine: str, start: Clock, end: Clock | None) -> RoleClock:
    lasted_s = 0.0 if end is None else end.at_s - start.at_s
    known = end is not None and lasted_s > 0
    return RoleClock(
        role=role,
        machine=machine,
        offset_s=start.offset_s,
        error_s=start.error_s,
        drift_ppm=(end.steady_offset_s - start.steady_offset_s) / lasted_s * 1e6 if end and known else None,
        drift_error_ppm=(end.error_s + start.error_s) / lasted_s * 1e6 if end and known else None,
    )

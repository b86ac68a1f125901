"""How far apart the places of a cell were: what was declared, and what clocks and hops saw of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from chaos.faults import Hop
from matrices.arms.arm import Arm
from matrices.evidence.events import Clock, Event
from matrices.evidence.history import CellState, state_of
from matrices.evidence.hops import hops_of
from matrices.evidence.manifest import Manifest, networks_of
from matrices.evidence.runs import pair_runs
from matrices.spec.networks import Network
from matrices.spec.regions import Regions


@dataclass(frozen=True, kw_only=True, slots=True)
class RoleClock:
    """One role's clock at the start of the cell's last processes, and what it gained on the harness's until the end.

    `offset_s` is known to `error_s`, and so is the wall clock at any moment; the shortest way there and back took twice
    that. `drift_ppm`, by the monotonic clocks, is known to `drift_error_ppm`; both None where the end is not known.
    `declared_s` is the round trip that was declared between the harness's `region` and the role's, None without one.
    """

    role: str
    machine: str
    region: str
    offset_s: float
    error_s: float
    drift_ppm: float | None
    drift_error_ppm: float | None
    declared_s: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class HopTrip:
    """One hop of an arm whose length was declared, or emulated: the shortest mean trip of a run, there and back.

    `trip_s` holds what both ends did for it beside the tools' and the engine's own time; None where no run tells.
    """

    arm: str
    hop: Hop
    places: str
    declared: str
    trip_s: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Ways:
    """The ways of one cell."""

    clocks: tuple[RoleClock, ...] = ()
    trips: tuple[HopTrip, ...] = ()


NO_WAYS = Ways()
"""The ways of a cell whose roles ran on the harness's machine, with nothing declared of its hops."""


def ways_of(manifest: Manifest, events: Iterable[Event], cell: str) -> Ways:
    """The clocks of roles that run elsewhere, and the hops whose length was declared or emulated."""
    state = state_of(events).get(cell)
    if state is None or not state.starts:
        return NO_WAYS
    hosts: Mapping[str, Mapping[str, Any]] = manifest.details.get("hosts", {})
    regions = _regions(manifest, hosts)
    ended = {} if state.ended is None else state.ended.clocks
    return Ways(
        clocks=tuple(
            _of_role(role, hosts.get(role, {}), regions, clock, ended.get(role))
            for role, clock in (state.starts[-1].clocks.items() if hosts else ())
        ),
        trips=_trips(manifest, state, regions),
    )


def _regions(manifest: Manifest, hosts: Mapping[str, Mapping[str, Any]]) -> Regions | None:
    declared = manifest.details.get("placement", {}).get("hosts", {})
    if not isinstance(declared, dict) or "region" not in declared:
        return None
    roles = {role: told["region"] for role, told in hosts.items() if "region" in told}
    return Regions(here=declared["region"], roles=roles, ways=declared.get("network", ()))


def _of_role(
    role: str, host: Mapping[str, Any], regions: Regions | None, start: Clock, end: Clock | None
) -> RoleClock:
    lasted_s = 0.0 if end is None else end.at_s - start.at_s
    drift_ppm = drift_error_ppm = None
    if end is not None and lasted_s > 0:
        drift_ppm = (end.steady_offset_s - start.steady_offset_s) / lasted_s * 1e6
        drift_error_ppm = (end.error_s + start.error_s) / lasted_s * 1e6
    region = str(host.get("region", ""))
    way = None if regions is None else regions.between(regions.here, region)
    return RoleClock(
        role=role,
        machine=str(host.get("machine", "")),
        region=region,
        offset_s=start.offset_s,
        error_s=start.error_s,
        drift_ppm=drift_ppm,
        drift_error_ppm=drift_error_ppm,
        declared_s=None if way is None else way.rtt,
    )


def _trips(manifest: Manifest, state: CellState, regions: Regions | None) -> tuple[HopTrip, ...]:
    emulated = networks_of(manifest)
    found = []
    here_too = (arm for arm in manifest.arms if arm.name in state.starts[-1].arms)
    for arm in here_too:
        for hop, role in (("model", arm.model), ("tool", arm.tools)):
            name: Hop = "model" if hop == "model" else "tool"
            if name not in arm.hops:
                continue
            network: Network | None = emulated.get(name)
            places = "emulated"
            if network is None and regions is not None:
                here, there = regions.roles.get(arm.agent, ""), regions.roles.get(role, "")
                network, places = regions.between(here, there), f"{here} to {there}"
            if network is not None:
                found.append(
                    HopTrip(
                        arm=arm.name,
                        hop=name,
                        places=places,
                        declared=network.words,
                        trip_s=_shortest(state, arm, name),
                    )
                )
    return tuple(found)


def _shortest(state: CellState, arm: Arm, hop: Hop) -> float | None:
    """The least mean trip of a run without an error, of those that made any and tell what it took beside the work."""
    if hop == "model" and not arm.engine_timings:
        return None
    trips = []
    for runs in pair_runs(state).values():
        run = runs.get(arm.name)
        parts = None if run is None else hops_of(run)
        if run is None or parts is None:
            continue
        attempts = [one for one in run.attempts if one.hop == hop]
        if attempts and all(one.outcome == "ok" and not one.fault_id for one in run.attempts):
            trips.append((parts.model_hop if hop == "model" else parts.tool_hop) / len(attempts))
    return min(trips, default=None)

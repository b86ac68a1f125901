"""Who else was hurt when a fault broke a tool's host, and for how long: a pure function of a cell's events.

A request is hurt by a named fault if it was in flight while the host of its arm's tools did not answer, and the request
that the fault was put on was in flight then too. Anything else that went wrong is nobody's doing, and a finding.
"""

from __future__ import annotations

import statistics
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from chaos.faults import FAULTS
from matrices.arms.arm import Comparison
from matrices.evidence import events as ev
from matrices.evidence.history import standing
from matrices.planning.expectation import Expectation

HURT_CODES = frozenset({"UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED"})
"""How a request ends whose host went away, froze, or dropped it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Flight:
    """One request in flight, by the harness's monotonic clock; `code` and `hop` are its error's, or "".

    One that was `abandoned` counts for nothing, but the fault that it was put on may have hurt others before.
    """

    run_id: str
    arm: str
    start_s: float
    end_s: float
    code: str
    hop: str
    abandoned: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Strike:
    """A fault that was handed to the host of an arm's tools, and the request that it was put on.

    A `fatal` one ends that request by itself.
    """

    fault_id: str
    kind: str
    arm: str
    fatal: bool
    flight: Flight


@dataclass(frozen=True, kw_only=True, slots=True)
class Evidence:
    """What a cell's history tells of its hosts, which are those of the arms of `comparison`."""

    comparison: Comparison
    flights: tuple[Flight, ...]
    strikes: tuple[Strike, ...]
    outages: tuple[ev.Outage, ...]
    restarts: tuple[ev.Restarted, ...]
    grown_mb: dict[str, float]
    """The growth of each role's process between two starts of the cell, in MiB, at most; by role."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Harm:
    """What one fault did. `roles` are seconds without an answer by role; None: the host was never seen to be out.

    `in_flight` counts the arm's other requests that met the outage (without one: that overlapped the request the fault
    was put on), `hurt` names those of them that ended in an error.
    """

    strike: Strike
    recovery_s: float | None
    roles: dict[str, float]
    in_flight: int
    hurt: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class ArmHarm:
    """The harms of one arm together: `roles` are the longest outage of each role in seconds.

    Faults of abandoned requests are left out, but for those of others that they hurt.
    """

    arm: str
    faults: int
    recovery_median_s: float | None
    recovery_max_s: float | None
    roles: dict[str, float]
    in_flight: int
    hurt: int
    host_grown_mb: float | None


def fatal_of(expectation: Expectation) -> frozenset[str]:
    """The ids of the planned faults that end the request they are put on."""
    failed = (run for pair in expectation.pairs for run in pair.runs.values() if not run.ok)
    last = (run.attempts[-1].fault for run in failed if run.attempts)
    return frozenset(fault.id for fault in last if fault is not None)


def evidence_in(events: Iterable[ev.Event], expected: Expectation) -> Evidence:
    """What the events tell of the cell that is expected so; see `evidence_of`."""
    return evidence_of(events, expected.cell, comparison=expected.comparison, fatal=fatal_of(expected))


def evidence_of(
    events: Iterable[ev.Event], cell: str, *, comparison: Comparison, fatal: Collection[str]
) -> Evidence:
    """What the events tell of one cell; `fatal` are the ids of the faults that end the request they are put on.

    The deliveries, and with them the strikes, are known once the cell has ended.
    """
    invokes: dict[str, ev.Invoke] = {}
    flights: dict[str, Flight] = {}
    deliveries: dict[str, tuple[ev.Delivery, ...]] = {}
    outages: list[ev.Outage] = []
    restarts: list[ev.Restarted] = []
    grown_mb: dict[str, float] = {}
    first_mb: dict[str, float] = {}
    last_s = float("-inf")
    for event in standing(events):
        match event:
            case ev.Invoke(cell=name) if name == cell:
                invokes[event.run_id] = event
                last_s = max(last_s, event.mono_s)
            case ev.Outcome(cell=name) if name == cell and event.run_id in invokes:
                flights[event.run_id] = flight = _flight(invokes[event.run_id], event)
                last_s = max(last_s, flight.end_s)
            case ev.Abandon(cell=name) if name == cell:
                # It went on until the harness died, some time after the last event that it wrote.
                for run_id in event.run_ids:
                    if run_id in invokes:
                        flights[run_id] = _abandoned(invokes[run_id], last_s)
            case ev.Outage(cell=name) if name == cell:
                outages.append(event)
                last_s = max(last_s, event.end_s)
            case ev.Restarted(cell=name) if name == cell:
                restarts.append(event)
            case ev.Deliveries(cell=name) if name == cell:
                deliveries[event.arm] = event.faults
            case ev.CellStarted(cell=name) if name == cell:
                first_mb = {}
            case ev.Block(cell=name) if name == cell:
                for role, size_mb in event.conditions.get("rss_mb", {}).items():
                    growth_mb = size_mb - first_mb.setdefault(role, size_mb)
                    grown_mb[role] = max(growth_mb, grown_mb.get(role, 0.0))
    return Evidence(
        comparison=comparison,
        flights=tuple(flights.values()),
        strikes=tuple(
            Strike(
                fault_id=row.fault_id,
                kind=row.kind,
                arm=arm,
                fatal=row.fault_id in fatal,
                flight=flights[row.run_id],
            )
            for arm, rows in deliveries.items()
            for row in rows
            if row.kind in FAULTS and FAULTS[row.kind].breaks_host and row.run_id in flights
        ),
        outages=tuple(outages),
        restarts=tuple(restarts),
        grown_mb=grown_mb,
    )


def culprits(flight: Flight, evidence: Evidence) -> tuple[str, ...]:
    """The ids of the faults of other requests that may have hurt this one; none where another cause is known or needed.

    With the tools in a process of their own only a failure at the tool hop can be their host's doing. A request that
    was handed a fatal fault itself ended by that one.
    """
    tools_apart = "tool" in evidence.comparison.arm(flight.arm).hops
    if flight.code not in HURT_CODES or (tools_apart and flight.hop != "tool"):
        return ()
    if any(strike.fatal and strike.flight.run_id == flight.run_id for strike in evidence.strikes):
        return ()
    met = [outage for outage in _host_outages(flight.arm, evidence) if _overlap(flight, outage)]
    return tuple(
        strike.fault_id
        for strike in evidence.strikes
        if strike.arm == flight.arm
        and strike.flight.run_id != flight.run_id
        and any(_overlap(strike.flight, outage) for outage in met)
    )


def unaccounted(evidence: Evidence) -> tuple[str, ...]:
    """Crashes that took no host down, and restarts that no crash asked for, each in words."""
    said = []
    crashes = [strike for strike in evidence.strikes if FAULTS[strike.kind].kills_host]
    for strike in crashes:
        if strike.flight.abandoned:
            continue  # the harness may have died with the host
        outage = _outage_of(strike, evidence)
        if outage is None or not any(_is_of(restart, outage) for restart in evidence.restarts):
            said.append(
                f"{strike.fault_id}: no restart of the {_host(strike.arm, evidence)} in the {strike.arm} arm"
            )
    for restart in evidence.restarts:
        claims = (
            outage is not None and _is_of(restart, outage)
            for outage in (_outage_of(strike, evidence) for strike in crashes)
        )
        if not any(claims):
            said.append(f"{restart.role} was restarted ({restart.death}), but no crash took it down")
    return tuple(said)


def harms(evidence: Evidence) -> tuple[Harm, ...]:
    """What each fault did, in the order of the deliveries."""
    return tuple(_harm(strike, evidence) for strike in evidence.strikes)


def by_arm(evidence: Evidence) -> tuple[ArmHarm, ...]:
    """One row for each arm, the baseline's first."""
    every = harms(evidence)
    rows = []
    for arm in evidence.comparison.names:
        hurt = {run_id for harm in every if harm.strike.arm == arm for run_id in harm.hurt}
        own = [harm for harm in every if harm.strike.arm == arm and not harm.strike.flight.abandoned]
        recoveries_s = [harm.recovery_s for harm in own if harm.recovery_s is not None]
        roles: dict[str, float] = {}
        for harm in own:
            for role, out_s in harm.roles.items():
                roles[role] = max(out_s, roles.get(role, 0.0))
        rows.append(
            ArmHarm(
                arm=arm,
                faults=len(own),
                recovery_median_s=statistics.median(recoveries_s) if recoveries_s else None,
                recovery_max_s=max(recoveries_s, default=None),
                roles=roles,
                in_flight=sum(harm.in_flight for harm in own),
                hurt=len(hurt),
                host_grown_mb=evidence.grown_mb.get(_host(arm, evidence)),
            )
        )
    return tuple(rows)


def harm_in(events: Iterable[ev.Event], expected: Expectation) -> tuple[ArmHarm, ...]:
    """A row for each arm of the cell that is expected so; none where its faults break no host."""
    return by_arm(evidence_in(events, expected)) if expected.breaks_hosts else ()


def _harm(strike: Strike, evidence: Evidence) -> Harm:
    outage = _outage_of(strike, evidence)
    span: Flight | ev.Outage = strike.flight if outage is None else outage
    others = [
        flight
        for flight in evidence.flights
        if flight.arm == strike.arm and flight.run_id != strike.flight.run_id and _overlap(flight, span)
    ]
    roles: dict[str, float] = {}
    for other in evidence.outages:
        if other.arm == strike.arm and _overlap(span, other):
            roles[other.role] = max(other.end_s - other.start_s, roles.get(other.role, 0.0))
    return Harm(
        strike=strike,
        recovery_s=None if outage is None else outage.end_s - outage.start_s,
        roles=roles,
        in_flight=len(others),
        hurt=tuple(flight.run_id for flight in others if strike.fault_id in culprits(flight, evidence)),
    )


def _outage_of(strike: Strike, evidence: Evidence) -> ev.Outage | None:
    """The outage that the fault began: the last one of the host while the faulted request was in flight."""
    met = [o for o in _host_outages(strike.arm, evidence) if _overlap(strike.flight, o)]
    return max(met, key=lambda outage: outage.start_s, default=None)


def _host_outages(arm: str, evidence: Evidence) -> list[ev.Outage]:
    return [outage for outage in evidence.outages if outage.role == _host(arm, evidence)]


def _host(arm: str, evidence: Evidence) -> str:
    """The role whose process hosts the arm's tools, and so meets the faults that break it."""
    return evidence.comparison.arm(arm).tools


def _overlap(one: Flight | ev.Outage, other: Flight | ev.Outage) -> bool:
    return one.start_s <= other.end_s and other.start_s <= one.end_s


def _is_of(restart: ev.Restarted, outage: ev.Outage) -> bool:
    """Whether the role was down for the restart within the outage."""
    return (
        restart.role == outage.role and restart.died_s <= outage.end_s and outage.start_s <= restart.serving_s
    )


def _flight(invoke: ev.Invoke, outcome: ev.Outcome) -> Flight:
    error = outcome.error
    return Flight(
        run_id=invoke.run_id,
        arm=invoke.arm,
        start_s=invoke.mono_s,
        end_s=invoke.mono_s + outcome.latency_s,
        code="" if error is None else error.code,
        hop="" if error is None else error.hop,
        abandoned=False,
    )


def _abandoned(invoke: ev.Invoke, until_s: float) -> Flight:
    return Flight(
        run_id=invoke.run_id,
        arm=invoke.arm,
        start_s=invoke.mono_s,
        end_s=until_s,
        code="",
        hop="",
        abandoned=True,
    )

"""The delivery log of an arm against the faults that the plan puts on its runs, and what the runs saw of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from matrices.checks.attempts import observed
from matrices.checks.finding import Finding, FindingKind, differs
from matrices.evidence.events import Delivery
from matrices.evidence.runs import Run
from matrices.planning.expectation import Expectation, ExpectedRun


@dataclass(frozen=True, kw_only=True, slots=True)
class FaultAccount:
    """The ids of one arm's faults in a cell. `superseded` were delivered to abandoned runs and are only counted."""

    planned: tuple[str, ...]
    delivered: tuple[str, ...]
    observed: tuple[str, ...]
    superseded: int


NO_FAULTS = FaultAccount(planned=(), delivered=(), observed=(), superseded=0)


def account(
    arm: str,
    rows: Sequence[Delivery],
    runs: Mapping[int, Run],
    abandoned: Mapping[str, int],
    expected: Expectation,
) -> FaultAccount:
    """What was planned for the arm, handed out to runs that count, and seen by them as it was meant."""
    counted = [row for row in rows if row.run_id not in abandoned]
    seen = []
    for pair in expected.pairs:
        run = runs.get(pair.pair)
        for want in pair.runs[arm].struck if run is not None else ():
            if run is not None and want.fault is not None and observed(want, run, pair.runs[arm], expected):
                seen.append(want.fault.id)
    return FaultAccount(
        planned=tuple(fault.id for pair in expected.pairs for fault in pair.runs[arm].faults),
        delivered=tuple(row.fault_id for row in counted),
        observed=tuple(seen),
        superseded=len(rows) - len(counted),
    )


def of_deliveries(
    arm: str,
    rows: Sequence[Delivery],
    runs: Mapping[int, Run],
    abandoned: Mapping[str, int],
    expected: Expectation,
) -> Iterator[Finding]:
    """Findings about the rows of one arm.

    `abandoned` has the pair of each run that an interruption cut short: it may lack deliveries, and has none that the
    whole run would not have.
    """
    planned = {pair.pair: pair for pair in expected.pairs}
    pair_of = {run.outcome.run_id: pair for pair, run in runs.items()}
    logged: dict[tuple[str, str], list[Delivery]] = defaultdict(list)
    for row in rows:
        logged[row.run_id, row.fault_id].append(row)
    wanted: set[tuple[str, str]] = set()

    def found(kind: FindingKind, pair: int | None, detail: str) -> Finding:
        return Finding(kind=kind, cell=expected.cell, arm=arm, pair=pair, detail=detail)

    for run_id, pair in {**pair_of, **abandoned}.items():
        of_run = planned[pair].runs[arm]
        for want in deliveries_of(of_run, run_id):
            wanted.add((run_id, want.fault_id))
            like = logged.get((run_id, want.fault_id), [])
            if not like and run_id not in abandoned:
                yield found("fault_not_delivered", pair, want.fault_id)
            if len(like) > 1:
                yield found("fault_delivered_twice", pair, f"{want.fault_id}, {len(like)} times")
            for row in like:
                if row != want:
                    yield found("fault_delivered_otherwise", pair, differs(want.fault_id, want, row))
    for row in rows:
        if (row.run_id, row.fault_id) not in wanted:
            detail = f"{row.fault_id} delivered to run {row.run_id}"
            yield found("fault_not_planned", pair_of.get(row.run_id, abandoned.get(row.run_id)), detail)


def of_observation(arm: str, runs: Mapping[int, Run], expected: Expectation) -> Iterator[Finding]:
    """Findings about planned faults that no attempt of the arm met, or that did not do what they do."""
    for pair in expected.pairs:
        run, planned = runs.get(pair.pair), pair.runs[arm]
        for attempt in planned.struck if run is not None else ():
            if run is None or attempt.fault is None:
                continue
            if not observed(attempt, run, planned, expected):
                ended = [
                    f"{one.code} {one.kind} after {one.duration_s * 1e3:.3f} ms"
                    for one in run.attempts
                    if one.fault_id == attempt.fault.id
                ]
                if attempt is planned.entry:
                    error = run.outcome.error
                    ended = [
                        f"{'OK' if error is None else error.code} after {run.outcome.latency_s * 1e3:.3f} ms"
                    ]
                got = ", ".join(ended) or "no attempt says it met it"
                detail = f"{attempt.fault.id}: expected {attempt.code}, got {got}"
                yield Finding(
                    kind="fault_not_observed", cell=expected.cell, arm=arm, pair=pair.pair, detail=detail
                )


def deliveries_of(run: ExpectedRun, run_id: str) -> list[Delivery]:
    """The rows that the run with that id leaves in the log if it is as planned."""
    return [
        Delivery(
            fault_id=attempt.fault.id,
            site=attempt.fault.site,
            hop=attempt.fault.hop,
            kind=attempt.fault.kind.name,
            how=attempt.fault.how,
            run_id=run_id,
            attempt=attempt.attempt,
        )
        for attempt in run.struck
        if attempt.fault is not None
    ]

"""Whether two campaigns of one plan did the same, run by run: another backend, host or version beside the first.

Times are compared elsewhere (`matrices.report.between`): two campaigns do not share a machine's conditions, and one
campaign's arms do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from matrices.evidence.events import Event
from matrices.evidence.history import CellState, state_of
from matrices.evidence.ledger import work_of
from matrices.evidence.manifest import Manifest
from matrices.evidence.runs import Run, pair_runs
from treni.errors import TreniError, invalid_argument

NEAR_TIE = 0.1
"""The distance of the two best tokens, in natural logarithms, under which rounding may choose the other."""

WRITTEN = frozenset({"calls", "answer", "tokens"})
"""Aspects that follow from what the model wrote; the others follow from the schedule too."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """The first aspect in which a run differs.

    `margin` is the smaller of the two runs' smallest top-2 margins, in nats; None where a run has no record.
    """

    cell: str
    pair: int
    task_id: str
    arm: str
    aspect: str
    first: str
    second: str
    margin: float | None

    def is_near_tie(self, within: float) -> bool:
        """Whether the model wrote something else, and a margin under `within` allows it."""
        return self.aspect in WRITTEN and self.margin is not None and self.margin < within


@dataclass(frozen=True, kw_only=True, slots=True)
class ArmAgreement:
    """One arm of one cell in both campaigns: requests, errors and retries over successes of each, and what differs."""

    cell: str
    arm: str
    runs: int
    errors: tuple[int, int]
    retries: tuple[int, int]
    differences: tuple[Difference, ...]


def refuse_other_plans(first: Manifest, second: Manifest) -> None:
    """Raises INVALID_ARGUMENT (`plans_differ`) unless both campaigns were planned alike, wherever they were run.

    Policies, timeouts, seeds and schedules decide what a run does; backend, host, version, margin and restarts do not.
    """
    for name in ("runs", "seed", "fault_seeds", "concurrency", "idempotency"):
        _alike(name.replace("_", " "), getattr(first, name), getattr(second, name))
    _alike("constrain_calls", *(bool(one.details.get("constrain_calls", False)) for one in (first, second)))
    names = [[cell.name for cell in one.cells] for one in (first, second)]
    _alike("the cells", *(", ".join(of) for of in names))
    for mine, theirs in zip(first.cells, second.cells, strict=True):
        for name in ("profile", "arms", "site"):
            _alike(f"{mine.name}: the {name}", getattr(mine, name), getattr(theirs, name))
        for name in sorted(set(mine.policy) | set(theirs.policy)):
            _alike(f"{mine.name}: policy.{name}", mine.policy.get(name), theirs.policy.get(name))
        for name in sorted(set(mine.schedule or {}) | set(theirs.schedule or {})):
            values = [(one.schedule or {}).get(name) for one in (mine, theirs)]
            _alike(f"{mine.name}: faults.{name}", *values)
        _alike(f"{mine.name}: the schedule's digests", mine.schedule_hash, theirs.schedule_hash)


def _alike(what: str, mine: object, theirs: object) -> None:
    if mine != theirs:
        raise plans_differ(f"the same {what}, here {mine}", str(theirs))


def agreement(first: Iterable[Event], second: Iterable[Event]) -> tuple[ArmAgreement, ...]:
    """Both campaigns' arms beside each other, in the first one's order.

    Raises INVALID_ARGUMENT (`plans_differ`) unless both completed the same pairs of the same cells, arms and tasks;
    DATA_LOSS for a record that is not one.
    """
    before, after = state_of(first), state_of(second)
    if list(before) != list(after):
        raise plans_differ(f"the cells {', '.join(before)}", ", ".join(after) or "none")
    return tuple(arm for cell in before for arm in cell_agreement(cell, before[cell], after[cell]))


def cell_agreement(name: str, before: CellState, after: CellState) -> Iterator[ArmAgreement]:
    """The arms of one cell. Raises as `agreement`."""
    runs = pair_runs(before), pair_runs(after)
    plans = [
        {number: (next(iter(arms.values())).pair.task_id, tuple(arms)) for number, arms in of.items() if arms}
        for of in runs
    ]
    if plans[0] != plans[1]:
        number = next(n for n in sorted(set(plans[0]) | set(plans[1])) if plans[0].get(n) != plans[1].get(n))
        raise plans_differ(f"cell {name}, pair {number}: {plans[0].get(number)}", f"{plans[1].get(number)}")
    for arm in sorted({arm for arms in runs[0].values() for arm in arms}):
        sides = [[arms[arm] for arms in of.values() if arm in arms] for of in runs]
        yield ArmAgreement(
            cell=name,
            arm=arm,
            runs=len(sides[0]),
            errors=_both(sides, lambda run: not run.ok),
            retries=_both(sides, lambda run: run.retries if run.ok else 0),
            differences=tuple(
                found
                for one, other in zip(*sides, strict=True)
                if (found := _difference(name, one, other)) is not None
            ),
        )


def _both(sides: list[list[Run]], count: Callable[[Run], int]) -> tuple[int, int]:
    return sum(map(count, sides[0])), sum(map(count, sides[1]))


def _difference(cell: str, one: Run, other: Run) -> Difference | None:
    for (aspect, first), (_, second) in zip(_aspects(one), _aspects(other), strict=True):
        if first != second:
            margins = [run.record.awareness.min_margin for run in (one, other) if run.record is not None]
            return Difference(
                cell=cell,
                pair=one.pair.pair,
                task_id=one.pair.task_id,
                arm=one.arm,
                aspect=aspect,
                first=first,
                second=second,
                margin=min(margins) if len(margins) == 2 else None,
            )
    return None


def _aspects(run: Run) -> Iterator[tuple[str, str]]:
    """What is compared, in the order in which one thing leads to the next."""
    work = work_of(run)
    error = run.outcome.error
    yield "calls", "" if work is None else "; ".join(f"{name} {given}" for name, given in work.tools)
    yield "answer", "; ".join(run.outcome.answers)
    yield (
        "outcome",
        run.outcome.outcome if error is None else f"{run.outcome.outcome} {error.code} {error.kind}",
    )
    yield (
        "attempts",
        "" if work is None else f"{work.model_attempts} at the model, {work.tool_attempts} at tools",
    )
    yield (
        "tokens",
        ""
        if work is None
        else f"{work.prompt_tokens} in ({work.cached_prompt_tokens} known), {work.completion_tokens} out",
    )


def plans_differ(expected: str, got: str) -> TreniError:
    """What is raised for campaigns that cannot be compared."""
    return invalid_argument(
        "plans_differ",
        expected=f"both campaigns to have {expected}",
        got=got,
        todo="compare campaigns of the same profiles, suite, runs and seeds, both complete",
    )

"""A campaign while it runs, in numbers: what each cell has given so far, from the events of its history."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from matrices.evidence import events as ev
from matrices.evidence.history import CellState, PairState
from matrices.evidence.runs import Run
from matrices.planning.expectation import Expectation
from matrices.report.comparison import PairedLatency, described, sample_of
from matrices.report.judged import MIN_RESTARTS
from matrices.statistics.estimates import PairSample

_ERRORS_KEPT = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class LiveRow:
    """One cell so far. `means_s` and `errors` are the baseline's and the compared arm's; None before the first pair.

    `latency` is over all pairs with two outcomes: which of them are void is for the checker to say, in the end.
    """

    cell: str
    arms: tuple[str, str]
    pairs: int
    done: int
    means_s: tuple[float, float] | None
    errors: tuple[int, int]
    latency: PairedLatency | None


@dataclass(frozen=True, kw_only=True, slots=True)
class LiveError:
    """A run that ended without an answer, and the fault behind it, "" where none is known."""

    cell: str
    task_id: str
    arm: str
    what: str
    fault_id: str


class LiveCampaign:
    """What a campaign has given so far. Taking an event costs nothing to speak of; `rows` does the sums."""

    def __init__(self, expectations: Sequence[Expectation], *, margin: float, restarts: int) -> None:
        self._expected = {one.cell: one for one in expectations}
        self._planned = {one.cell: {pair.pair: pair for pair in one.pairs} for one in expectations}
        self._margin = margin
        self._by_segment = restarts >= MIN_RESTARTS
        self._pending: list[ev.Event] = []
        self._states: dict[str, CellState] = {}
        self._rows: dict[str, LiveRow] = {}
        self._errors: deque[LiveError] = deque(maxlen=_ERRORS_KEPT)
        self._cell = ""

    def take(self, event: ev.Event) -> None:
        """The next event of the history."""
        self._pending.append(event)

    def rows(self) -> tuple[LiveRow, ...]:
        """A row for each planned cell; only cells that got events since are computed again."""
        changed = self._fold()
        for name in self._expected:
            if name in changed or name not in self._rows:
                self._rows[name] = self._row(name)
        return tuple(self._rows[name] for name in self._expected)

    @property
    def errors(self) -> tuple[LiveError, ...]:
        """The last errors, the newest at the end."""
        return tuple(self._errors)

    @property
    def ahead(self) -> str:
        """The pair that comes next in the cell that runs, and the faults that are planned for it, in words."""
        state = self._states.get(self._cell)
        if state is None or state.ended is not None:
            return ""
        done = {**state.completed, **state.begun}
        pair = next((pair for pair in self._expected[self._cell].pairs if pair.pair not in done), None)
        if pair is None:
            return ""
        faults = [f"{fault.id} ({arm})" for arm, run in pair.runs.items() for fault in run.faults]
        return f"{self._cell} {pair.task.id}: {', '.join(faults) or 'no fault planned'}"

    def _fold(self) -> set[str]:
        pending, self._pending = self._pending, []
        changed = set()
        for event in pending:
            if isinstance(event, ev.Opened | ev.Resumed | ev.Sealed) or event.cell not in self._expected:
                continue
            state = self._states.setdefault(event.cell, CellState(cell=event.cell))
            if isinstance(event, ev.Outcome) and event.outcome != "ok":
                self._errors.append(_error(state, event))
            state.fold(event)
            self._cell = event.cell
            changed.add(event.cell)
        return changed

    def _row(self, name: str) -> LiveRow:
        expected, state = self._expected[name], self._states.get(name)
        completed = {} if state is None else state.completed
        samples = [sample for pair in completed.values() if (sample := self._sample(name, pair)) is not None]
        return LiveRow(
            cell=name,
            arms=expected.arms,
            pairs=len(expected.pairs),
            done=len(completed),
            means_s=(_mean([s.baseline_s for s in samples]), _mean([s.compared_s for s in samples]))
            if samples
            else None,
            errors=(sum(not s.baseline_ok for s in samples), sum(not s.compared_ok for s in samples)),
            latency=described(samples, self._margin) if samples else None,
        )

    def _sample(self, name: str, state: PairState) -> PairSample | None:
        arms, planned = self._expected[name].arms, self._planned[name].get(state.started.pair)
        if planned is None or not set(arms) <= set(state.outcomes):
            return None
        # Without its record, which takes longer to read than all the rest and says nothing here.
        runs = {
            arm: Run(pair=state.started, arm=arm, outcome=state.outcomes[arm], record=None) for arm in arms
        }
        return sample_of(planned, runs, arms, planned.segment if self._by_segment else planned.block)


def _error(state: CellState, event: ev.Outcome) -> LiveError:
    begun = state.begun.get(event.pair)
    error = event.error
    return LiveError(
        cell=event.cell,
        task_id="" if begun is None else begun.started.task_id,
        arm=event.arm,
        what=event.outcome if error is None else f"{error.code} {error.kind}",
        fault_id="" if error is None else error.fault_id,
    )


def _mean(seconds: Sequence[float]) -> float:
    return math.fsum(seconds) / len(seconds)

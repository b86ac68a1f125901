"""What was seen of a cell, pair by pair and moment by moment: what charts and tables of single runs are made of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from matrices.checks.check import CellJudgement
from matrices.evidence import events as ev
from matrices.evidence.hops import Hops, hops_of
from matrices.evidence.ledger import count_effects
from matrices.evidence.runs import Run
from matrices.planning.expectation import Expectation


@dataclass(frozen=True, kw_only=True, slots=True)
class StepSeen:
    """One attempt of a run on a hop, from `start_s` after the run began; `fault_id` "" where no fault met it."""

    hop: str
    name: str
    attempt: int
    start_s: float
    duration_s: float
    outcome: str
    code: str
    fault_id: str


@dataclass(frozen=True, kw_only=True, slots=True)
class RunSeen:
    """One run: from `start_s` after the cell's first one for `latency_s`, until the client had an outcome.

    `code` is the status of a run that failed, "" of an answered one; `faults` are those that were delivered to it,
    `duplicates` the effects that it had once too often. `parts` sum to the latency; None without a record.
    """

    arm: str
    run_id: str
    start_s: float
    latency_s: float
    outcome: str
    code: str
    retries: int
    faults: tuple[str, ...]
    duplicates: int
    parts: Hops | None
    steps: tuple[StepSeen, ...]

    @property
    def ok(self) -> bool:
        """Whether the run ended with an answer."""
        return self.outcome == "ok"


@dataclass(frozen=True, kw_only=True, slots=True)
class PairSeen:
    """One pair of which both arms have an outcome, the baseline's run first; `void` says why it does not count."""

    pair: int
    block: int
    task_id: str
    family: str
    stratum: str
    first: str
    void: str
    contaminated: bool
    runs: tuple[RunSeen, RunSeen]

    @property
    def difference_s(self) -> float:
        """The compared run's latency less the baseline's."""
        return self.runs[1].latency_s - self.runs[0].latency_s


@dataclass(frozen=True, kw_only=True, slots=True)
class Window:
    """A stretch of time in which something was wrong on purpose or by its consequences.

    `kind` is "fault" (of one attempt), "strike" (of a host, until its services were back) or "outage" (of a role).
    """

    kind: str
    label: str
    start_s: float
    end_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class BlockSeen:
    """One block: when it ran, how the machine was meanwhile, and why it is contaminated, "" where it is not."""

    block: int
    start_s: float
    end_s: float
    conditions: Mapping[str, float]
    contaminated: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Observed:
    """Everything that was seen of one cell; seconds count from its first run, without the gaps of interruptions."""

    pairs: tuple[PairSeen, ...] = ()
    windows: tuple[Window, ...] = ()
    blocks: tuple[BlockSeen, ...] = ()

    @property
    def valid(self) -> tuple[PairSeen, ...]:
        """The pairs that count."""
        return tuple(pair for pair in self.pairs if not pair.void)


NOTHING_SEEN = Observed()


@dataclass(kw_only=True)
class _Seen:
    """What the events of a cell tell, all by one clock that no restart of the harness sets back."""

    invoked: dict[str, float]
    marks: dict[int, dict[str, tuple[float, ev.Block]]]
    delivered: dict[str, list[ev.Delivery]]
    effects: dict[str, list[ev.EffectRow]]
    struck: dict[str, tuple[float, ev.Struck]]
    windows: list[Window]


def observed(
    standing: Iterable[ev.Event], judged: CellJudgement, expected: Expectation, arms: tuple[str, str]
) -> Observed:
    """What was seen of the judged cell; `standing` are the events of the history that count."""
    seen = _walk(event for event in standing if getattr(event, "cell", None) == judged.cell)
    origin_s = min(seen.invoked.values(), default=0.0)
    pairs = []
    windows = [
        replace(one, start_s=one.start_s - origin_s, end_s=one.end_s - origin_s) for one in seen.windows
    ]
    firsts = {pair.pair: pair for pair in expected.pairs}
    for number, runs in judged.runs.items():
        if number not in firsts or not set(arms) <= set(runs):
            continue
        started = runs[arms[0]].pair
        both = [_run(runs[arm], seen, origin_s, expected, number) for arm in arms]
        pairs.append(
            PairSeen(
                pair=number,
                block=started.block,
                task_id=started.task_id,
                family=started.family,
                stratum=firsts[number].stratum,
                first=started.order[0],
                void=judged.void.get(number, ""),
                contaminated=started.block in judged.contaminated,
                runs=(both[0], both[1]),
            )
        )
        windows += [window for run in both for window in _of_faults(run)]
    blocks = tuple(
        _block(number, marks, judged.contaminated.get(number, ""), origin_s)
        for number, marks in sorted(seen.marks.items())
        if {"start", "end"} <= set(marks)
    )
    windows.sort(key=lambda one: (one.start_s, one.end_s, one.label))
    return Observed(pairs=tuple(pairs), windows=tuple(windows), blocks=blocks)


def _walk(events: Iterable[ev.Event]) -> _Seen:
    seen = _Seen(invoked={}, marks={}, delivered={}, effects={}, struck={}, windows=[])
    epoch, last_s, shift_s, moved = 0, 0.0, 0.0, False
    for event in events:
        if isinstance(event, ev.CellStarted) and event.epoch > epoch:
            # Another start of the harness, perhaps of the machine: its clock begins where the one before ended.
            epoch, moved = event.epoch, bool(seen.invoked)
        if isinstance(event, ev.Block | ev.Invoke):
            if moved:
                shift_s, moved = last_s - event.mono_s, False
            last_s = max(last_s, event.mono_s + shift_s)
        match event:
            case ev.Invoke():
                seen.invoked[event.run_id] = event.mono_s + shift_s
            case ev.Outcome() if event.run_id in seen.invoked:
                last_s = max(last_s, seen.invoked[event.run_id] + event.latency_s)
            case ev.Block():
                seen.marks.setdefault(event.block, {})[event.phase] = (event.mono_s + shift_s, event)
            case ev.Deliveries():
                seen.delivered[event.arm] = list(event.faults)
            case ev.Effects():
                seen.effects[event.arm] = list(event.rows)
            case ev.Struck():
                seen.struck[event.fault_id] = (event.struck_s + shift_s, event)
            case ev.Healed() if event.fault_id in seen.struck:
                since_s, struck = seen.struck[event.fault_id]
                label = f"{event.fault_id} on {event.host} ({', '.join(struck.roles)})"
                seen.windows.append(
                    Window(kind="strike", label=label, start_s=since_s, end_s=event.back_s + shift_s)
                )
            case ev.Outage():
                label = f"{event.role} of {event.arm} did not answer"
                start_s, end_s = event.start_s + shift_s, event.end_s + shift_s
                seen.windows.append(Window(kind="outage", label=label, start_s=start_s, end_s=end_s))
    return seen


def _run(run: Run, seen: _Seen, origin_s: float, expected: Expectation, number: int) -> RunSeen:
    run_id, outcome = run.outcome.run_id, run.outcome
    rows = [row for row in seen.effects.get(run.arm, ()) if row.run_id == run_id]
    planned = tuple(pair for pair in expected.pairs if pair.pair == number) if rows else ()
    counts = count_effects(rows, {number: run}, (), replace(expected, pairs=planned), run.arm)
    return RunSeen(
        arm=run.arm,
        run_id=run_id,
        start_s=seen.invoked.get(run_id, origin_s) - origin_s,
        latency_s=outcome.latency_s,
        outcome=outcome.outcome,
        code="" if outcome.error is None else outcome.error.code,
        retries=run.retries,
        faults=tuple(one.fault_id for one in seen.delivered.get(run.arm, ()) if one.run_id == run_id),
        duplicates=counts.duplicate,
        parts=hops_of(run),
        steps=tuple(
            StepSeen(
                hop=one.hop,
                name=one.name,
                attempt=one.attempt,
                start_s=one.start_s,
                duration_s=one.duration_s,
                outcome=one.outcome,
                code=one.code,
                fault_id=one.fault_id,
            )
            for one in run.attempts
        ),
    )


def _of_faults(run: RunSeen) -> list[Window]:
    """The windows of the faults that were delivered to a run: its struck attempts, or all of it where none tells."""
    found = {step.fault_id: step for step in run.steps if step.fault_id}
    windows = []
    for fault_id in run.faults:
        step = found.get(fault_id)
        start_s = run.start_s + (0.0 if step is None else step.start_s)
        lasted_s = run.latency_s if step is None else step.duration_s
        label = f"{fault_id} in {run.run_id}"
        windows.append(Window(kind="fault", label=label, start_s=start_s, end_s=start_s + lasted_s))
    return windows


def _block(number: int, marks: dict[str, tuple[float, ev.Block]], why: str, origin_s: float) -> BlockSeen:
    (start_s, _), (end_s, end) = marks["start"], marks["end"]
    told = {
        name: float(value)
        for name, value in sorted(end.conditions.items())
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    return BlockSeen(
        block=number,
        start_s=start_s - origin_s,
        end_s=end_s - origin_s,
        conditions=told,
        contaminated=why,
    )

"""Judges a history: whether every run did what the plan and the schedule say, and what it did otherwise.

Pure: a manifest, the events and the expectations in, findings out. A campaign without findings is one whose
figures mean what they say.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from matrices.events import Delivery, Event
from matrices.expectation import Expectation, ExpectedPair, ExpectedRun
from matrices.history import CellState, state_of
from matrices.hops import hops_of
from matrices.ledger import NO_EFFECTS, EffectCounts, count_effects, pair_work
from matrices.manifest import Manifest, ManifestCell
from matrices.runs import REFUSALS, Run, pair_runs

CLOCK_TOLERANCE_S = 0.001
"""How far below zero a part of a run's time may lie: parts are differences of clocks read in different processes."""

MAX_QUOTED_CHARS = 300
"""How much of an answer or a message a finding quotes; the history has it whole."""

FindingKind: TypeAlias = Literal[
    "campaign_unsealed",
    "report_differs",
    "cell_missing",
    "cell_unplanned",
    "cell_broken",
    "cell_unended",
    "pair_missing",
    "pair_unplanned",
    "pair_repeated",
    "pair_unfinished",
    "pair_not_as_planned",
    "pair_void",
    "event_stray",
    "outcome_missing",
    "record_missing",
    "answer_wrong",
    "arm_swapped",
    "backend_swapped",
    "error_count",
    "error_unplanned",
    "error_absent",
    "error_unexplained",
    "retry_count",
    "retries_unplanned",
    "internal_error",
    "attempt_unexplained",
    "fault_not_delivered",
    "fault_delivered_twice",
    "fault_not_planned",
    "fault_not_observed",
    "log_missing",
    "effect_lost",
    "effect_duplicate",
    "effect_phantom",
    "effect_stranger",
    "hops_negative",
    "conditions_missing",
]


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One thing that is not as it should be; `arm` "" and `pair` None where it concerns none in particular."""

    kind: FindingKind
    cell: str
    arm: str = ""
    pair: int | None = None
    detail: str = ""

    def __str__(self) -> str:
        """The finding in one line."""
        where = [self.cell, self.arm, "" if self.pair is None else f"pair {self.pair}"]
        return f"{self.kind} [{' '.join(part for part in where if part)}] {self.detail}".rstrip()


@dataclass(frozen=True, kw_only=True, slots=True)
class FaultAccount:
    """The ids of one arm's faults in a cell. `superseded` were delivered to abandoned runs and are only counted."""

    planned: tuple[str, ...]
    delivered: tuple[str, ...]
    observed: tuple[str, ...]
    superseded: int


@dataclass(frozen=True, kw_only=True, slots=True)
class CellJudgement:
    """What the checker says of one cell; `complete` if it ran to its planned end.

    `faults` and `effects` are by arm, `void` gives the reason by pair, `contaminated` by block; `runs` are the runs
    of completed pairs by pair and arm.
    """

    cell: str
    complete: bool
    findings: tuple[Finding, ...]
    faults: dict[str, FaultAccount]
    effects: dict[str, EffectCounts]
    void: dict[int, str]
    contaminated: dict[int, str]
    runs: dict[int, dict[str, Run]]


def check(
    manifest: Manifest, events: Iterable[Event], expectations: Sequence[Expectation]
) -> tuple[CellJudgement, ...]:
    """The judgement of each cell of the manifest, in its order, and of any cell that it does not name.

    `expectations` has one entry for each cell of the manifest. Raises `TreniError` for a record that is not one.
    """
    states = state_of(events)
    expected = {expectation.cell: expectation for expectation in expectations}
    judged = [_judge(manifest, cell, states.get(cell.name), expected[cell.name]) for cell in manifest.cells]
    planned = {cell.name for cell in manifest.cells}
    judged += [_nothing(name, "cell_unplanned") for name in states if name not in planned]
    return tuple(judged)


def contaminated_blocks(cell: CellState, limits: Mapping[str, float]) -> dict[int, str]:
    """The blocks over which a condition exceeded its limit, with the condition in words.

    Only a block's end speaks of the block; its start is a reading over next to no time. A block whose end an
    interruption swallowed, so that its conditions are not known, is contaminated too.
    """
    found: dict[int, str] = {}
    if len(cell.starts) > 1:
        found = {
            block: f"{', '.join(names)} not recorded" for block, names in _unrecorded(cell, limits).items()
        }
    for block, marks in sorted(cell.blocks.items()):
        for mark in (mark for mark in marks if mark.phase == "end"):
            for name, limit in limits.items():
                value = mark.conditions.get(name)
                if value is not None and value > limit:
                    found.setdefault(block, f"{name} {value:g} > {limit:g}")
    return found


def _nothing(name: str, kind: FindingKind, arms: Sequence[str] = ()) -> CellJudgement:
    return CellJudgement(
        cell=name,
        complete=False,
        findings=(Finding(kind=kind, cell=name),),
        faults=dict.fromkeys(arms, FaultAccount(planned=(), delivered=(), observed=(), superseded=0)),
        effects=dict.fromkeys(arms, NO_EFFECTS),
        void={},
        contaminated={},
        runs={},
    )


def _judge(
    manifest: Manifest, config: ManifestCell, state: CellState | None, expected: Expectation
) -> CellJudgement:
    if state is None:
        return _nothing(config.name, "cell_missing", config.arms)
    runs = pair_runs(state)
    work = [pair_work(pair, by_arm) for pair, by_arm in runs.items()]
    void = {entry.pair: entry.void for entry in work if entry.void is not None}
    contaminated = contaminated_blocks(state, manifest.contamination)
    findings: list[Finding] = []
    findings += _of_cell(state)
    findings += _of_pairs(state, expected)
    findings += _of_conditions(state, manifest.contamination)
    findings += [
        Finding(kind="pair_void", cell=state.cell, pair=pair, detail=why) for pair, why in void.items()
    ]
    planned = {pair.pair: pair for pair in expected.pairs}
    faults: dict[str, FaultAccount] = {}
    effects: dict[str, EffectCounts] = {}
    for arm in config.arms:
        of_arm = {pair: by_arm[arm] for pair, by_arm in runs.items() if arm in by_arm and pair in planned}
        faults[arm], fault_findings = _faults(state, arm, of_arm, planned)
        effects[arm], effect_findings = _effects(manifest, state, arm, of_arm.values(), expected)
        findings += _of_arm(config, arm, of_arm.values(), expected)
        for pair, run in of_arm.items():
            findings += _of_run(manifest, state.cell, run, planned[pair].runs[arm])
        findings += fault_findings
        findings += effect_findings
    return CellJudgement(
        cell=state.cell,
        complete=state.ended is not None and state.ended.status == "complete",
        findings=tuple(findings),
        faults=faults,
        effects=effects,
        void=void,
        contaminated=contaminated,
        runs=runs,
    )


def _of_cell(state: CellState) -> Iterator[Finding]:
    if state.ended is None:
        yield Finding(kind="cell_unended", cell=state.cell, detail="interrupted; resume the campaign")
    elif state.ended.status == "broken":
        yield Finding(kind="cell_broken", cell=state.cell, detail=state.ended.detail)
    for stray in state.stray:
        yield Finding(kind="event_stray", cell=state.cell, detail=stray)
    for pair, count in sorted(Counter(state.repeated).items()):
        yield Finding(kind="pair_repeated", cell=state.cell, pair=pair, detail=f"{count} events too many")
    for pair in sorted(state.begun):
        yield Finding(kind="pair_unfinished", cell=state.cell, pair=pair, detail="begun, never completed")


def _of_pairs(state: CellState, expected: Expectation) -> Iterator[Finding]:
    planned = {pair.pair: pair for pair in expected.pairs}
    for pair in planned:
        if pair not in state.completed:
            yield Finding(kind="pair_missing", cell=state.cell, pair=pair)
    for pair, done in sorted(state.completed.items()):
        if pair not in planned:
            yield Finding(kind="pair_unplanned", cell=state.cell, pair=pair)
            continue
        for arm in expected.arms:
            if arm not in done.outcomes:
                yield Finding(kind="outcome_missing", cell=state.cell, arm=arm, pair=pair)
        yield from _of_plan(state, pair, planned[pair])


def _of_plan(state: CellState, pair: int, planned: ExpectedPair) -> Iterator[Finding]:
    started = state.completed[pair].started
    ids = {arm: tuple(fault.id for fault in run.faults) for arm, run in planned.runs.items()}
    for name, want, got in (
        ("task", planned.task_id, started.task_id),
        ("block", planned.block, started.block),
        ("stratum", planned.stratum, started.stratum),
        ("planned faults", ids, started.planned_faults),
    ):
        if want != got:
            detail = f"{name}: expected {want}, got {got}"
            yield Finding(kind="pair_not_as_planned", cell=state.cell, pair=pair, detail=detail)


def _of_conditions(state: CellState, limits: Mapping[str, float]) -> Iterator[Finding]:
    if state.ended is None or len(state.starts) > 1:
        return
    for block, names in _unrecorded(state, limits).items():
        detail = f"block {block}: {', '.join(names)} not recorded"
        yield Finding(kind="conditions_missing", cell=state.cell, detail=detail)


def _unrecorded(state: CellState, limits: Mapping[str, float]) -> dict[int, list[str]]:
    """The conditions that each block with a completed pair should have told at its end and did not."""
    missing = {}
    for block in sorted({done.started.block for done in state.completed.values()}):
        ends = [mark for mark in state.blocks.get(block, ()) if mark.phase == "end"]
        known: set[str] = set().union(*(mark.conditions for mark in ends))
        if names := [name for name in limits if name not in known]:
            missing[block] = names
    return missing


def _of_arm(config: ManifestCell, arm: str, runs: Iterable[Run], expected: Expectation) -> Iterator[Finding]:
    every = tuple(runs)
    errors = sum(not run.ok for run in every)
    retries = sum(run.retries for run in every if run.ok)
    if errors != expected.errors(arm):
        detail = f"the schedule predicts {expected.errors(arm)}, the history has {errors}"
        yield Finding(kind="error_count", cell=config.name, arm=arm, detail=detail)
    if retries != expected.retries_of_successes(arm):
        detail = f"over successes, the schedule predicts {expected.retries_of_successes(arm)}, got {retries}"
        yield Finding(kind="retry_count", cell=config.name, arm=arm, detail=detail)
    if errors and arm != "external" and config.site != "tool":
        detail = f"{errors} errors in an arm that has no hop to fault"
        yield Finding(kind="internal_error", cell=config.name, arm=arm, detail=detail)


def _of_run(manifest: Manifest, cell: str, run: Run, expected: ExpectedRun) -> Iterator[Finding]:
    def found(kind: FindingKind, detail: str) -> Finding:
        return Finding(kind=kind, cell=cell, arm=run.arm, pair=run.pair.pair, detail=detail)

    if run.ok and not run.outcome.correct:
        answer = "" if run.outcome.answer is None else run.outcome.answer
        yield found("answer_wrong", f"task {run.pair.task_id} answered {answer[:MAX_QUOTED_CHARS]!r}")
    error = run.outcome.error
    said = "no error given"
    if error is not None:
        where = f"{error.hop} hop" if error.hop else "no hop"
        said = f"{error.code} {error.kind} at {where}: {error.message[:MAX_QUOTED_CHARS]}"
    if not run.ok and expected.ok:
        yield found("error_unplanned", said)
    if run.ok and not expected.ok:
        yield found("error_absent", "the schedule predicts an error")
    last = run.attempts[-1] if run.attempts else None
    if not run.ok and (last is None or last.outcome == "ok" or not last.fault_id):
        yield found("error_unexplained", f"no fault caused it: {said}")
    if run.retries != expected.retries:
        yield found("retries_unplanned", f"expected {expected.retries}, got {run.retries}")
    for attempt in run.attempts:
        refused = attempt.hop == "tool" and attempt.code in REFUSALS
        if attempt.outcome != "ok" and not attempt.fault_id and not refused:
            where = f"{attempt.hop} call {attempt.call_index} attempt {attempt.attempt}"
            yield found("attempt_unexplained", f"{where}: {attempt.code} {attempt.detail}".rstrip())
    if run.record is None:
        if run.ok:
            yield found("record_missing", "an answer without a record")
        return
    routed = "external" if run.arm == "external" else "internal"
    if run.record.arm != routed:
        yield found("arm_swapped", f"the record says {run.record.arm!r}")
    if run.record.turns:
        told = (run.record.model, run.record.backend, run.record.device)
        want = (manifest.model.name, manifest.model.backend, manifest.model.device)
        if told != want:
            yield found("backend_swapped", f"expected {' '.join(want)}, got {' '.join(told)}")
    yield from _of_hops(cell, run)


def _of_hops(cell: str, run: Run) -> Iterator[Finding]:
    hops = hops_of(run) if run.ok else None
    if hops is None:
        return
    for name in ("client", "loop", "model_hop", "engine_other", "tool_hop", "unexplained"):
        value_s = getattr(hops, name)
        if value_s < -CLOCK_TOLERANCE_S:
            detail = f"{name} is {value_s * 1e3:.3f} ms"
            yield Finding(kind="hops_negative", cell=cell, arm=run.arm, pair=run.pair.pair, detail=detail)


def _faults(
    state: CellState, arm: str, runs: Mapping[int, Run], planned: Mapping[int, ExpectedPair]
) -> tuple[FaultAccount, list[Finding]]:
    findings: list[Finding] = []

    def found(kind: FindingKind, pair: int | None, detail: str) -> None:
        findings.append(Finding(kind=kind, cell=state.cell, arm=arm, pair=pair, detail=detail))

    logged = arm in state.deliveries
    if not logged and state.ended is not None:
        found("log_missing", None, "no delivery log")
    rows = state.deliveries.get(arm, ())
    counted: list[Delivery] = [row for row in rows if row.run_id not in state.superseded_runs]
    delivered = Counter((row.run_id, row.fault_id) for row in counted)
    pair_of = {run.outcome.run_id: pair for pair, run in runs.items()}
    met: set[tuple[str, str]] = set()
    observed: list[str] = []
    for pair, run in runs.items():
        for fault in planned[pair].runs[arm].faults:
            key = (run.outcome.run_id, fault.id)
            met.add(key)
            if logged and delivered[key] == 0:
                found("fault_not_delivered", pair, fault.id)
            elif delivered[key] > 1:
                found("fault_delivered_twice", pair, f"{fault.id}, {delivered[key]} times")
            codes = [attempt.code for attempt in run.attempts if attempt.fault_id == fault.id]
            if any(code in fault.codes for code in codes):
                observed.append(fault.id)
            else:
                got = f"ended {', '.join(codes)}" if codes else "no attempt says it met it"
                found(
                    "fault_not_observed", pair, f"{fault.id}: {got}, expected {'/'.join(sorted(fault.codes))}"
                )
    for run_id, fault_id in sorted(set(delivered) - met):
        found("fault_not_planned", pair_of.get(run_id), f"{fault_id} delivered to run {run_id}")
    account = FaultAccount(
        planned=tuple(fault.id for pair in planned.values() for fault in pair.runs[arm].faults),
        delivered=tuple(row.fault_id for row in counted),
        observed=tuple(observed),
        superseded=len(rows) - len(counted),
    )
    return account, findings


def _effects(
    manifest: Manifest, state: CellState, arm: str, runs: Iterable[Run], expected: Expectation
) -> tuple[EffectCounts, list[Finding]]:
    if arm not in state.effects:
        missing = Finding(kind="log_missing", cell=state.cell, arm=arm, detail="no ledger of effects")
        return NO_EFFECTS, [missing] if state.ended is not None else []
    counts = count_effects(
        state.effects[arm],
        runs,
        superseded=state.superseded_runs,
        side_effect_tools=manifest.side_effect_tools,
    )
    wants: tuple[tuple[FindingKind, int, int], ...] = (
        ("effect_lost", 0, counts.lost),
        ("effect_duplicate", expected.duplicates[arm], counts.duplicate),
        ("effect_phantom", expected.phantoms[arm], counts.phantom),
        ("effect_stranger", 0, counts.stranger),
    )
    return counts, [
        Finding(kind=kind, cell=state.cell, arm=arm, detail=f"expected {want}, got {got}")
        for kind, want, got in wants
        if want != got
    ]

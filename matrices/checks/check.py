"""Judges a campaign: whether every run did what plan, suite and schedule say, and what it did otherwise.

Pure: a manifest, the events and the expectations in, findings out. Nothing that can be derived is believed; what is
compared stands in `matrices.checks`, one file a topic, and what no checker could know in docs/checker.md. A campaign
without findings is one whose figures mean what they say.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from matrices.checks import (
    answers,
    attempts,
    clock,
    conditions,
    deliveries,
    disturbances,
    effects,
    identity,
    overhead,
    plan,
    sameness,
    structure,
    timing,
    user_turns,
)
from matrices.checks.collateral import culprits, evidence_in, unaccounted
from matrices.checks.deliveries import NO_FAULTS, FaultAccount
from matrices.checks.finding import Finding, FindingKind
from matrices.checks.recovery import ArmRecovery, recovery_of
from matrices.evidence.events import EffectRow, Event
from matrices.evidence.history import CellState, standing, state_of
from matrices.evidence.ledger import NO_EFFECTS, EffectCounts, count_effects, pair_work
from matrices.evidence.manifest import Manifest, ManifestCell
from matrices.evidence.outside import told_of
from matrices.evidence.resolution import resolve
from matrices.evidence.runs import Run, pair_runs
from matrices.planning.expectation import Expectation, ExpectedPair

__all__ = ["CellJudgement", "FaultAccount", "Finding", "FindingKind", "check"]

CAMPAIGN = ""
"""The cell of findings that concern the campaign as a whole."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CellJudgement:
    """What the checker says of one cell; `complete` if it ran to its planned end.

    `faults` and `effects` are by arm, `void` gives the reason by pair, `contaminated` by block. `abandoned` has each
    pair that an interruption cut off and that was run again, once for each time; `discarded` says how the cell broke
    each time that it was run again from its start, and `pairs_discarded` how many pairs were begun before;
    `runs` are those of completed pairs by pair and arm. `recoveries` tell for each arm how it came through faults of
    hosts, where there are any.
    """

    cell: str
    complete: bool
    findings: tuple[Finding, ...]
    faults: dict[str, FaultAccount]
    effects: dict[str, EffectCounts]
    void: dict[int, str]
    contaminated: dict[int, str]
    abandoned: tuple[int, ...]
    runs: dict[int, dict[str, Run]]
    recoveries: tuple[ArmRecovery, ...] = ()
    discarded: tuple[str, ...] = ()
    pairs_discarded: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class _Cell:
    """One cell with all that it is judged by: `announced` is what was expected before anything ran.

    `abandoned` has the pair of each run that an interruption cut short; `hurt` are the runs that a fault of another one
    hurt, so that they did less than planned. `disturbed` is what faults between hosts did, `touched` whom they may have
    hurt, `forestalled` whom they may have kept from a fault of its own.
    """

    manifest: Manifest
    config: ManifestCell
    state: CellState
    expected: Expectation
    announced: Expectation
    planned: dict[int, ExpectedPair]
    runs: dict[int, dict[str, Run]]
    void: dict[int, str]
    walked: structure.Structure
    hurt: frozenset[str]
    disturbed: disturbances.Disturbances
    touched: frozenset[str]
    forestalled: frozenset[str]
    abandoned: Mapping[str, dict[str, int]]


def check(
    manifest: Manifest, events: Iterable[Event], expectations: Sequence[Expectation]
) -> tuple[CellJudgement, ...]:
    """The judgement of each cell of the manifest, in its order, and of any cell that it does not name.

    `expectations` has one entry for each cell of the manifest. What concerns no cell in particular is the judgement
    of a cell named "". Raises `TreniError` for a record that is not one.
    """
    events = tuple(events)
    states = state_of(events)
    runs = {name: pair_runs(state) for name, state in states.items()}
    announced = {expected.cell: expected for expected in expectations}
    slow = {expected.cell: conditions.slowness(states.get(expected.cell)) for expected in expectations}
    expectations = [
        _slowed(resolve(expected, runs.get(expected.cell, {})), slow[expected.cell])
        for expected in expectations
    ]
    walked = structure.structure(manifest, events, expectations)
    own_way = {
        expected.cell: frozenset(arm.name for arm in expected.comparison if not arm.alike)
        for expected in expectations
    }
    void = {name: {} if own_way.get(name) else _void(of) for name, of in runs.items()}
    found = [
        *plan.of_manifest(manifest, expectations),
        *walked.findings,
        *clock.of_clocks(
            standing(events),
            created_utc=manifest.created_utc,
            concurrency=manifest.concurrency,
            holding={expected.cell for expected in expectations if expected.breaks_hosts},
            slowness=slow,
        ),
        *sameness.of_sameness(
            {
                name: [
                    run
                    for pair, arms in of.items()
                    if pair not in void[name]
                    for arm, run in arms.items()
                    if arm not in own_way.get(name, ())
                ]
                for name, of in runs.items()
            },
            sequential=manifest.concurrency == 1,
            alike=_alike(manifest, expectations),
            foreign=frozenset().union(*(expected.foreign for expected in expectations)),
        ),
    ]
    judged = []
    for config, expected in zip(manifest.cells, expectations, strict=True):
        state = states.get(config.name)
        if state is None:
            judged.append(_nothing(config.name, "cell_missing", config.arms))
            continue
        disturbed = disturbances.disturbances_in(
            state, (run for by_arm in runs[config.name].values() for run in by_arm.values()), expected
        )
        hit = disturbances.touched(disturbed, expected)
        cell = _Cell(
            manifest=manifest,
            config=config,
            state=state,
            expected=expected,
            announced=announced[config.name],
            planned={pair.pair: pair for pair in expected.pairs},
            runs=runs[config.name],
            # What a struck process forgot is the fault's doing, and no other work.
            void={
                pair: why
                for pair, why in void[config.name].items()
                if not any(run.outcome.run_id in hit for run in runs[config.name][pair].values())
            },
            walked=walked,
            hurt=_hurt(events, expected, found),
            disturbed=disturbed,
            touched=hit,
            forestalled=disturbances.forestalled(disturbed, expected),
            abandoned=walked.abandoned.get(config.name, {}),
        )
        judged.append(_judge(cell, [finding for finding in found if finding.cell == config.name]))
    planned = {cell.name for cell in manifest.cells}
    judged += [_nothing(name, "cell_unplanned") for name in states if name not in planned]
    if of_none := tuple(finding for finding in found if finding.cell == CAMPAIGN):
        judged.append(_empty(CAMPAIGN, of_none))
    return tuple(judged)


def _alike(manifest: Manifest, expectations: Iterable[Expectation]) -> frozenset[str]:
    """The cells in which nothing but a comparison of the answers could tell that one was changed.

    On other backends than NumPy's, requests in flight together may be computed in other groupings ("Bits" in
    ARCHITECTURE.md).
    """
    if manifest.concurrency > 1 and manifest.model.backend != "numpy":
        return frozenset()
    return frozenset(one.cell for one in expectations if one.comparison.alike and not one.must_pass)


def _hurt(events: Iterable[Event], expected: Expectation, found: list[Finding]) -> frozenset[str]:
    """The runs of a cell that named faults of others hurt; what no fault accounts for is added to `found`."""
    if not expected.breaks_hosts:
        return frozenset()
    evidence = evidence_in(events, expected)
    found += [
        Finding(kind="restart_unaccounted", cell=expected.cell, detail=said) for said in unaccounted(evidence)
    ]
    return frozenset(flight.run_id for flight in evidence.flights if culprits(flight, evidence))


def _void(runs: Mapping[int, Mapping[str, Run]]) -> dict[int, str]:
    """Why pairs do not count in which arms that have to be alike did not do the same."""
    work = [pair_work(pair, by_arm) for pair, by_arm in runs.items()]
    return {entry.pair: entry.void for entry in work if entry.void is not None}


def _nothing(name: str, kind: FindingKind, arms: Sequence[str] = ()) -> CellJudgement:
    return _empty(name, (Finding(kind=kind, cell=name),), arms)


def _empty(name: str, findings: tuple[Finding, ...], arms: Sequence[str] = ()) -> CellJudgement:
    return CellJudgement(
        cell=name,
        complete=False,
        findings=findings,
        faults=dict.fromkeys(arms, NO_FAULTS),
        effects=dict.fromkeys(arms, NO_EFFECTS),
        void={},
        contaminated={},
        abandoned=(),
        runs={},
    )


def _judge(cell: _Cell, found: Sequence[Finding]) -> CellJudgement:
    state, config, void, limits = cell.state, cell.config, cell.void, cell.manifest.contamination
    findings: list[Finding] = [
        *plan.of_cell(state),
        *plan.of_pairs(state, cell.announced),
        *found,
        *disturbances.of_strikes(state, cell.expected, cell.disturbed),
        *conditions.of_conditions(state, limits),
        *(Finding(kind="pair_void", cell=state.cell, pair=pair, detail=why) for pair, why in void.items()),
    ]
    faults: dict[str, FaultAccount] = {}
    counts: dict[str, EffectCounts] = {}
    for arm in config.arms:
        mine = {
            pair: by_arm[arm] for pair, by_arm in cell.runs.items() if arm in by_arm and pair in cell.planned
        }
        logged, rows = state.deliveries.get(arm), state.effects.get(arm)
        faults[arm] = deliveries.account(arm, logged or (), mine, cell.abandoned.get(arm, {}), cell.expected)
        counts[arm] = NO_EFFECTS
        if rows is not None:
            counts[arm] = _effects(cell, arm, rows, mine)
        findings += _of_arm(cell, arm, mine)
        for pair, run in mine.items():
            findings += _of_run(cell, run, cell.planned[pair])
    if state.ended is not None and state.ended.status == "broken":
        # It ends wherever it was, and is to be run again: whatever else is missing follows from that.
        findings = [finding for finding in findings if finding.kind == "cell_broken"]
    return CellJudgement(
        cell=state.cell,
        complete=state.ended is not None and state.ended.status == "complete",
        findings=tuple(findings),
        faults=faults,
        effects=counts,
        void=void,
        contaminated=conditions.contaminated_blocks(state, limits),
        abandoned=tuple(state.abandoned),
        runs=cell.runs,
        recoveries=_recoveries(cell),
        discarded=tuple(discard.why for discard in state.discards),
        pairs_discarded=state.pairs_discarded,
    )


def _recoveries(cell: _Cell) -> tuple[ArmRecovery, ...]:
    if not cell.expected.disturbs:
        return ()
    return tuple(
        recovery_of(
            arm,
            cell.disturbed,
            {pair: by_arm[arm.name] for pair, by_arm in cell.runs.items() if arm.name in by_arm},
            cell.state.effects.get(arm.name, ()),
        )
        for arm in cell.expected.comparison
    )


def _effects(cell: _Cell, arm: str, rows: Sequence[EffectRow], runs: Mapping[int, Run]) -> EffectCounts:
    """The account of the arm's rows: those of runs that a strike may have hurt by what can be known of them."""
    touched = _those(runs, cell.touched)
    whole = {
        pair: run for pair, run in runs.items() if run.outcome.run_id not in cell.hurt and pair not in touched
    }
    strict = [row for row in rows if row.run_id not in cell.touched]
    one = count_effects(strict, whole, _gone(cell, arm, runs), cell.expected, arm)
    other = disturbances.count_effects(rows, touched, cell.expected)
    return EffectCounts(
        **{
            field.name: getattr(one, field.name) + getattr(other, field.name)
            for field in dataclasses.fields(EffectCounts)
        }
    )


def _those(runs: Mapping[int, Run], run_ids: Collection[str]) -> dict[int, Run]:
    return {pair: run for pair, run in runs.items() if run.outcome.run_id in run_ids}


def _slowed(expected: Expectation, by_block: Mapping[int, float]) -> Expectation:
    """The expectation, with how slow the machine was in each pair's block."""
    slow = {pair.pair: by_block[pair.block] for pair in expected.pairs if pair.block in by_block}
    return dataclasses.replace(expected, slowness=slow)


def _of_arm(cell: _Cell, arm: str, runs: Mapping[int, Run]) -> Iterator[Finding]:
    state, expected = cell.state, cell.expected

    def found(kind: FindingKind, detail: str) -> Finding:
        return Finding(kind=kind, cell=state.cell, arm=arm, detail=detail)

    gone = _gone(cell, arm, runs)
    met = {pair: run for pair, run in runs.items() if run.outcome.run_id not in cell.hurt}
    touched = _those(met, cell.touched)
    runs = {pair: run for pair, run in met.items() if pair not in touched}
    hurt = {pair for run_id, pair in gone.items() if run_id in cell.hurt} | set(touched)
    errors = sum(not run.ok for run in runs.values())
    retries = sum(run.retries for run in runs.values() if run.ok)
    if errors != (predicted := expected.errors(arm, but=hurt)):
        yield found("error_count", f"the schedule predicts {predicted}, the history has {errors}")
    if retries != (predicted := expected.retries_of_successes(arm, but=hurt)):
        yield found("retry_count", f"over successes, the schedule predicts {predicted}, got {retries}")
    if errors and arm not in expected.faulted:
        yield found("error_unscheduled", f"{errors} errors in an arm that the schedule does not touch")
    for what, logs in (("delivery log", state.deliveries), ("ledger of effects", state.effects)):
        if arm not in logs and state.ended is not None:
            yield found("log_missing", f"no {what}")
    if arm in state.deliveries:
        logged = state.deliveries[arm]
        told = {row.run_id for row in logged}
        kept = _those(met, cell.forestalled - told)
        late = {run.outcome.run_id: pair for pair, run in kept.items()}
        met = {pair: run for pair, run in met.items() if pair not in kept}
        yield from deliveries.of_deliveries(arm, logged, met, {**gone, **late}, expected)
    yield from deliveries.of_observation(arm, met, expected)
    if arm in state.effects:
        strict = [row for row in state.effects[arm] if row.run_id not in cell.touched]
        yield from effects.of_effects(state.cell, arm, strict, runs, gone, expected)
        yield from disturbances.of_effects(state.effects[arm], touched, expected, arm)
    yield from overhead.of_overhead(
        arm, runs, expected, cell.manifest.concurrency, apart_s=overhead.seen_apart_s(state.starts)
    )


def _gone(cell: _Cell, arm: str, runs: Mapping[int, Run]) -> dict[str, int]:
    """The pairs of the arm's runs that may have done less than planned: cut short, or hurt by another's fault."""
    hurt = {run.outcome.run_id: pair for pair, run in runs.items() if run.outcome.run_id in cell.hurt}
    return {**cell.abandoned.get(arm, {}), **hurt}


def _of_run(cell: _Cell, run: Run, planned: ExpectedPair) -> Iterator[Finding]:
    expected, of_cell = planned.runs[run.arm], cell.expected

    def say(kind: FindingKind, detail: str) -> Finding:
        return Finding(kind=kind, cell=of_cell.cell, arm=run.arm, pair=run.pair.pair, detail=detail)

    start = cell.walked.starts.get((of_cell.cell, run.pair.pair))
    agent = of_cell.agent(run.arm, run.pair.pair)
    pids = cell.walked.pids(of_cell.cell, run.pair.pair, agent)
    yield from identity.of_identity(
        run, start, agent, pids, cell.manifest.model, told_of(cell.manifest), of_cell, say
    )
    if run.outcome.run_id in cell.hurt:
        return  # it ended by a fault that is not its own, at any point
    if run.outcome.run_id in cell.touched:
        flight = cell.disturbed.flights[run.outcome.run_id]
        yield from disturbances.of_run(flight, expected, planned.task, of_cell, cell.disturbed, say)
        return
    yield from answers.of_answer(run, planned.task, expected, of_cell, say=say)
    yield from answers.of_error(run, expected, say)
    late_s = attempts.late_s(of_cell, run.pair.pair)
    arm = of_cell.comparison.arm(run.arm)
    yield from timing.of_times(run, expected, arm, of_cell.policy.run_timeout_s, late_s, say)
    if run.record is not None:
        yield from attempts.of_attempts(run, expected, of_cell, say=say)
        yield from user_turns.of_user_turns(run, run.record, planned.task, expected, late_s=late_s, say=say)

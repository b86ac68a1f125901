"""Every figure of a report, from a manifest, its events and its expectations alone: the tables only lay them out."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from chaos.faults import Hop
from matrices.arms.arm import Comparison
from matrices.checks.check import CellJudgement, FaultAccount, Finding
from matrices.checks.collateral import ArmHarm, harm_in
from matrices.checks.recovery import ArmRecovery
from matrices.evidence.events import Event
from matrices.evidence.history import standing
from matrices.evidence.hops import Hops, hops_of, mean_hops
from matrices.evidence.ledger import EffectCounts, work_of
from matrices.evidence.manifest import Manifest, ManifestCell
from matrices.evidence.runs import Run
from matrices.planning.expectation import Counter, Expectation
from matrices.report.cell_gates import gates_of
from matrices.report.comparison import (
    AA,
    PairedLatency,
    Reliability,
    answered,
    compare,
    reliability,
)
from matrices.report.curves import ArmPoint, Curve, SweptFigures, curves
from matrices.report.families import FamilyFigures, families_of, per_token_s
from matrices.report.judged import judged_campaign
from matrices.report.observed import NOTHING_SEEN, Observed, observed
from matrices.report.totals import WorkTotals, totals_of
from matrices.report.user_turns import UserTurnFigures, user_turns_of
from matrices.report.ways import NO_WAYS, Ways, ways_of
from matrices.spec.suites import Task, must_pass
from matrices.statistics.estimates import LatencySummary, latency_summary
from matrices.statistics.gates import Gate, claim_safe
from matrices.statistics.reliability import CostPerSuccess, RunCost, cost_per_success
from matrices.statistics.verdicts import Floor

__all__ = ["AA", "ArmFigures", "CellFigures", "Figures", "PairedLatency", "Reliability", "figures"]

BLACK_BOX = "is a black box"


@dataclass(frozen=True, kw_only=True, slots=True)
class ArmFigures:
    """One arm of one cell.

    `latency` is over every request's time to its end, answer or error, `latency_success` over answers only;
    None of nothing. `hops` are means over the requests that have a record. `time_per_success` are the seconds and
    `attempts_per_success` the attempts on both hops that all requests took, failed ones included, for each right
    answer. `latency_per_token_s` is over the answers whose records tell their tokens. `seen`: its attempts are known.
    """

    arm: str
    requests: int
    errors: int
    wrong_answers: int
    retries_of_successes: int
    latency: LatencySummary | None
    latency_success: LatencySummary | None
    ttft_p50_s: float | None
    hops: Hops | None
    without_record: int
    time_per_success: CostPerSuccess | None
    attempts_per_success: CostPerSuccess | None
    latency_per_token_s: float | None
    work: WorkTotals
    faults: FaultAccount
    effects: EffectCounts
    user_turns: tuple[UserTurnFigures, ...]
    seen: bool = True

    @property
    def successes(self) -> int:
        """Requests that ended with an answer."""
        return self.requests - self.errors

    @property
    def correct(self) -> int:
        """Requests that ended with the right answer."""
        return self.successes - self.wrong_answers

    @property
    def accuracy(self) -> float | None:
        """Right answers over answers; None of none."""
        return self.correct / self.successes if self.successes else None

    @property
    def error_rate(self) -> float | None:
        """Errors over requests; None of none."""
        return self.errors / self.requests if self.requests else None

    @property
    def retries_mean_success(self) -> float | None:
        """Retries over the requests that ended with an answer, for each of them; None where none did, or nobody saw."""
        return self.retries_of_successes / self.successes if self.successes and self.seen else None


@dataclass(frozen=True, kw_only=True, slots=True)
class CellFigures:
    """One row of the comparison, in which the arms of `sides` are compared.

    `comparison` is over all pairs that are not void, `without_contaminated` leaves contaminated blocks out of the
    whole campaign, floor included, and `successes` keeps pairs in which both arms answered (its verdict is not one
    to report). `abandoned` counts pairs that an interruption cut off, `discarded` how the cell broke each time that
    it ran again. `harm` has a row for each arm where faults break hosts, `recoveries` where they strike them.
    `counters` are the counts of attempts by which schedules act. `remark` is what a reader of the error rates must
    know of the schedule, `ways` how far apart its places were. `uncounted` are the tools called whose effects no ledger
    counts, `ledgered` says whether any other with effects is called. `observed` has the single runs.
    """

    config: ManifestCell
    sides: Comparison
    complete: bool
    arms: tuple[ArmFigures, ...]
    pairs: int
    void: dict[int, str]
    blocks: int
    contaminated: dict[int, str]
    pairs_contaminated: int
    abandoned: int
    discarded: tuple[str, ...]
    comparison: PairedLatency
    without_contaminated: PairedLatency
    successes: PairedLatency
    reliability: Reliability
    harm: tuple[ArmHarm, ...]
    recoveries: tuple[ArmRecovery, ...]
    findings: tuple[Finding, ...]
    gates: tuple[Gate, ...]
    counters: tuple[Counter, ...]
    remark: str
    ways: Ways = NO_WAYS
    uncounted: tuple[str, ...] = ()
    ledgered: bool = True
    observed: Observed = NOTHING_SEEN

    def counted(self, effects: int) -> str:
        """A count of effects in words: "" where none of the cell's tools has its effects counted."""
        return str(effects) if self.ledgered or not self.uncounted else ""

    families: tuple[FamilyFigures, ...] = ()

    def knows(self, arm: ArmFigures, name: str) -> bool:
        """Whether it is known how much of that (a field of `WorkTotals`) an arm's runs did."""
        of_arm = self.sides.arm(arm.arm)
        if name.endswith("_tokens"):
            return of_arm.tokens or arm.work.tokens_told > 0
        return of_arm.seen or name in ("tool_calls", "tokens_told")

    @property
    def claim_safe(self) -> bool:
        """Whether every gate passed."""
        return claim_safe(self.gates)

    @property
    def spared(self) -> dict[str, str]:
        """The arms that do not meet the faults which hops meet in the other one, and why not in words."""
        met = {
            arm.name: {count.hop for count in self.counters if count.arm == arm.name} for arm in self.sides
        }
        every = set[Hop]().union(*met.values())
        return {
            arm.name: "cannot be faulted there"
            if missed & arm.hops
            else "has no such hop"
            if arm.seen
            else BLACK_BOX
            for arm in self.sides
            if (missed := every - met[arm.name])
        }

    @property
    def verdict(self) -> str:
        """The verdict on latency in words."""
        return self.said(self.comparison)

    @property
    def reliability_verdict(self) -> str:
        """The verdict on errors in words."""
        return self.reliability.verdict.of(self.sides.compared.name)

    def said(self, latency: PairedLatency) -> str:
        """The verdict of one of the cell's estimates in words."""
        return latency.verdict.of(self.sides.compared.name)


@dataclass(frozen=True, kw_only=True, slots=True)
class Figures:
    """The whole report in numbers. `floor` is None where the A/A cell gives none."""

    manifest: Manifest
    cells: tuple[CellFigures, ...]
    floor: Floor | None
    unplanned: tuple[Finding, ...]

    @property
    def sides(self) -> Comparison:
        """The arms that the campaign compares: those of every cell but the A/A one."""
        return self.cells[-1].sides

    @property
    def examines(self) -> bool:
        """Whether nobody knew before that the model answers the suite rightly, so that its accuracy is a figure."""
        details = self.manifest.details
        return not must_pass(suite=details.get("suite"), model_dir=details.get("model_dir"))

    @property
    def curves(self) -> tuple[Curve, ...]:
        """What each swept setting does."""
        by_name = {cell.config.name: cell for cell in self.cells}
        return curves(
            SweptFigures(
                profile=one.profile,
                settings=one.settings,
                arms=tuple(_point(arm) for arm in by_name[one.cell].arms),
            )
            for one in self.manifest.sweep
        )

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Everything the checker holds against the campaign."""
        return (*self.unplanned, *(finding for cell in self.cells for finding in cell.findings))


def _point(arm: ArmFigures) -> ArmPoint:
    return ArmPoint(
        arm=arm.arm,
        error_rate=arm.error_rate,
        retries_mean_success=arm.retries_mean_success,
        latency_mean_s=None if arm.latency is None else arm.latency.mean_s,
    )


def figures(manifest: Manifest, events: Iterable[Event], expectations: Sequence[Expectation]) -> Figures:
    """The report in numbers. Pure; raises `TreniError` for a record in the history that is not one."""
    judged = judged_campaign(manifest, events, expectations)
    expected, mine, samples, by_segment = judged.expected, judged.cells, judged.samples, judged.by_segment
    everything = len(judged.findings)
    floor, every = compare({name: of.valid for name, of in samples.items()}, manifest.margin)
    _, clean = compare({name: of.clean for name, of in samples.items()}, manifest.margin)
    rates = reliability({name: of.every for name, of in samples.items()})
    counted = standing(judged.events)
    cells = []
    for config in manifest.cells:
        name, one = config.name, mine[config.name]
        blocks = {pair.block for pair in expected[name].pairs if pair.pair in one.runs}
        cells.append(
            CellFigures(
                config=config,
                sides=expected[name].comparison,
                complete=one.complete,
                arms=tuple(_arm(one, arm, expected[name]) for arm in config.arms),
                pairs=len(one.runs),
                void=one.void,
                blocks=len(blocks),
                contaminated=one.contaminated,
                pairs_contaminated=len(samples[name].valid) - len(samples[name].clean),
                abandoned=len(one.abandoned),
                discarded=one.discarded,
                comparison=every[name],
                without_contaminated=clean[name],
                successes=answered(samples[name].valid, manifest.margin),
                reliability=rates[name],
                harm=harm_in(judged.events, expected[name]),
                recoveries=one.recoveries,
                findings=one.findings,
                gates=gates_of(
                    one,
                    samples[name],
                    floor,
                    every[name],
                    clean[name],
                    expected=expected[name],
                    blocks=len(blocks),
                    elsewhere=everything - len(one.findings),
                ),
                counters=expected[name].counters,
                remark=expected[name].remark,
                uncounted=expected[name].uncounted,
                ledgered=any(
                    call.name in manifest.side_effect_tools
                    for pair in expected[name].pairs
                    for call in pair.task.calls
                ),
                ways=ways_of(manifest, judged.events, name),
                observed=observed(counted, one, expected[name], config.arms),
                families=()
                if expected[name].comparison.alike
                else families_of(one, expected[name], manifest.margin, by_segment=by_segment),
            )
        )
    return Figures(manifest=manifest, cells=tuple(cells), floor=floor, unplanned=judged.unplanned)


def _arm(judged: CellJudgement, arm: str, expected: Expectation) -> ArmFigures:
    blocks = {pair.pair: pair.block for pair in expected.pairs}
    runs = [by_arm[arm] for by_arm in judged.runs.values() if arm in by_arm]
    answered = [run for run in runs if run.ok]
    tasks = {pair.pair: pair.task for pair in expected.pairs}
    right = {run.pair.pair: _right(run, tasks) for run in runs}
    parts = [parts for run in runs if (parts := hops_of(run)) is not None]
    ttfts = [run.outcome.ttft_s for run in answered if run.outcome.ttft_s is not None]
    seen = expected.comparison.arm(arm).seen
    return ArmFigures(
        arm=arm,
        requests=len(runs),
        errors=len(runs) - len(answered),
        wrong_answers=sum(not right[run.pair.pair] for run in answered),
        retries_of_successes=sum(run.retries for run in answered),
        latency=_latency(runs),
        latency_success=_latency(answered),
        ttft_p50_s=statistics.median(ttfts) if ttfts else None,
        hops=mean_hops(parts),
        without_record=len(runs) - len(parts),
        time_per_success=_cost(runs, blocks, right, [run.outcome.latency_s for run in runs]),
        attempts_per_success=_cost(runs, blocks, right, [float(len(run.attempts)) for run in runs])
        if seen
        else None,
        seen=seen,
        latency_per_token_s=per_token_s(answered),
        work=totals_of([work for run in runs if (work := work_of(run)) is not None]),
        faults=judged.faults[arm],
        effects=judged.effects[arm],
        user_turns=user_turns_of(runs),
    )


def _latency(runs: Sequence[Run]) -> LatencySummary | None:
    return latency_summary([run.outcome.latency_s for run in runs]) if runs else None


def _right(run: Run, tasks: Mapping[int, Task]) -> bool:
    """Whether the run ended with answers that its task's graders accept, whatever the history says of them."""
    task = tasks.get(run.pair.pair)
    return run.ok and task is not None and task.are_correct(run.outcome.answers)


def _cost(
    runs: Sequence[Run], blocks: Mapping[int, int], right: Mapping[int, bool], amounts: Sequence[float]
) -> CostPerSuccess | None:
    if not runs:
        return None
    return cost_per_success(
        [
            RunCost(block=blocks.get(run.pair.pair, -1), amount=amount, correct=right[run.pair.pair])
            for run, amount in zip(runs, amounts, strict=True)
        ]
    )

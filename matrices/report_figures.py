"""Every figure of a report, from a manifest, its events and its expectations alone: the tables only lay them out."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from matrices.check import CellJudgement, FaultAccount, Finding, check
from matrices.curves import ArmPoint, Curve, SweptFigures, curves
from matrices.events import Event, Sealed
from matrices.expectation import Expectation
from matrices.hops import Hops, hops_of, mean_hops
from matrices.ledger import EffectCounts, Work, work_of
from matrices.manifest import Manifest, ManifestCell
from matrices.runs import Run
from matrices.statistics import (
    CONFIDENCE,
    Estimate,
    LatencySummary,
    PairSample,
    holm,
    latency_ratio,
    latency_summary,
    paired_difference,
)
from matrices.verdicts import (
    AA_CONFIDENCE,
    Evidence,
    Floor,
    Gate,
    Verdict,
    claim_safe,
    gates,
    judge,
    judge_aa,
    measure_floor,
)
from treni.errors import TreniError

AA = "aa"
"""The name of the cell that runs the internal arm against itself."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkTotals:
    """What all runs of an arm did together, failed runs included."""

    prompt_tokens: int
    completion_tokens: int
    cached_prompt_tokens: int
    turns: int
    tool_calls: int
    model_attempts: int
    tool_attempts: int
    retries: int
    new_connections: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ArmFigures:
    """One arm of one cell.

    `latency` is over every request's time to its end, answer or error, `latency_success` over answers only;
    None of nothing. `hops` are means over the requests that have a record.
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
    work: WorkTotals
    faults: FaultAccount
    effects: EffectCounts

    @property
    def successes(self) -> int:
        """Requests that ended with an answer."""
        return self.requests - self.errors

    @property
    def correct(self) -> int:
        """Requests that ended with the right answer."""
        return self.successes - self.wrong_answers

    @property
    def cost_per_success_s(self) -> float | None:
        """The time that users spent on all requests, failed ones included, for each right answer; None of none."""
        if self.latency is None or self.correct == 0:
            return None
        return self.latency.mean_s * self.latency.count / self.correct

    @property
    def attempts_per_success(self) -> float | None:
        """Attempts on both hops over all requests, failed ones included, for each right answer; None of none."""
        if self.correct == 0:
            return None
        return (self.work.model_attempts + self.work.tool_attempts) / self.correct

    @property
    def error_rate(self) -> float | None:
        """Errors over requests; None of none."""
        return self.errors / self.requests if self.requests else None

    @property
    def retries_mean_success(self) -> float | None:
        """Retries over the requests that ended with an answer, for each of them; None where none did."""
        return self.retries_of_successes / self.successes if self.successes else None


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """The second arm against the first: difference in seconds and ratio of means, second over first.

    `unavailable` says why there is no estimate, "" where there is one. `p_adjusted` is Holm's, over all profiles.
    """

    pairs: int
    delta: Estimate | None
    ratio: Estimate | None
    median_delta_s: float | None
    p_adjusted: float | None
    verdict: Verdict
    unavailable: str


@dataclass(frozen=True, kw_only=True, slots=True)
class CellFigures:
    """One row of the comparison.

    `comparison` is over all pairs that are not void, `without_contaminated` leaves contaminated blocks out of the
    whole campaign, floor included, and `successes` keeps pairs in which both arms answered (its verdict is not one
    to report). `remark` is what a reader of the error rates must know of the schedule.
    """

    config: ManifestCell
    complete: bool
    arms: tuple[ArmFigures, ...]
    pairs: int
    void: dict[int, str]
    blocks: int
    contaminated: dict[int, str]
    pairs_contaminated: int
    comparison: Comparison
    without_contaminated: Comparison
    successes: Comparison
    findings: tuple[Finding, ...]
    gates: tuple[Gate, ...]
    remark: str

    @property
    def claim_safe(self) -> bool:
        """Whether every gate passed."""
        return claim_safe(self.gates)


@dataclass(frozen=True, kw_only=True, slots=True)
class Figures:
    """The whole report in numbers. `floor` is None where the A/A cell gives none."""

    manifest: Manifest
    cells: tuple[CellFigures, ...]
    floor: Floor | None
    unplanned: tuple[Finding, ...]

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
    events = tuple(events)
    sealed = bool(events) and isinstance(events[-1], Sealed)
    judged = {judgement.cell: judgement for judgement in check(manifest, events, expectations)}
    mine = {cell.name: judged.pop(cell.name) for cell in manifest.cells}
    arms = {cell.name: cell.arms for cell in manifest.cells}
    remarks = {expectation.cell: expectation.remark for expectation in expectations}
    floor, every = _compare({name: _samples(one, arms[name]) for name, one in mine.items()})
    _, clean = _compare({name: _samples(one, arms[name], clean=True) for name, one in mine.items()})
    _, answered = _compare({name: _samples(one, arms[name], answered=True) for name, one in mine.items()})
    return Figures(
        manifest=manifest,
        cells=tuple(
            _cell(
                cell,
                mine[cell.name],
                floor,
                every[cell.name],
                clean[cell.name],
                answered[cell.name],
                remarks[cell.name],
            )
            for cell in manifest.cells
        ),
        floor=floor,
        unplanned=(
            *(finding for one in judged.values() for finding in one.findings),
            *(
                []
                if sealed
                else [Finding(kind="campaign_unsealed", cell="", detail="interrupted; resume it")]
            ),
        ),
    )


def _samples(
    judged: CellJudgement, arms: tuple[str, str], *, clean: bool = False, answered: bool = False
) -> list[PairSample]:
    samples = []
    for pair, runs in judged.runs.items():
        if pair in judged.void or not set(arms) <= set(runs):
            continue
        first, second = runs[arms[0]], runs[arms[1]]
        if clean and first.pair.block in judged.contaminated:
            continue
        if answered and not (first.ok and second.ok):
            continue
        sample = PairSample(
            block=first.pair.block,
            stratum=first.pair.stratum,
            internal_s=first.outcome.latency_s,
            external_s=second.outcome.latency_s,
        )
        samples.append(sample)
    return samples


def _compare(samples: Mapping[str, list[PairSample]]) -> tuple[Floor | None, dict[str, Comparison]]:
    """The floor, and each cell held against it, the profiles corrected together."""
    found: dict[str, tuple[Estimate, Estimate]] = {}
    unavailable: dict[str, str] = {}
    for cell, pairs in samples.items():
        try:
            confidence = AA_CONFIDENCE if cell == AA else CONFIDENCE
            found[cell] = (
                paired_difference(pairs, confidence=confidence),
                latency_ratio(pairs, confidence=confidence),
            )
        except TreniError as error:  # too few pairs for an interval; the row says so
            unavailable[cell] = str(error)
    floor = measure_floor(samples[AA]) if AA in found else None
    profiles = [cell for cell in found if cell != AA]
    adjusted = dict(zip(profiles, holm([found[cell][0].p_value for cell in profiles]), strict=True))
    compared = {}
    for cell, pairs in samples.items():
        delta, ratio = found.get(cell, (None, None))
        verdict = Verdict.INCONCLUSIVE
        if floor is not None and delta is not None:
            verdict = judge_aa(floor) if cell == AA else judge(delta, adjusted[cell], floor)
        differences = [pair.external_s - pair.internal_s for pair in pairs]
        compared[cell] = Comparison(
            pairs=len(pairs),
            delta=delta,
            ratio=ratio,
            median_delta_s=statistics.median(differences) if differences else None,
            p_adjusted=None if delta is None else adjusted.get(cell, delta.p_value),
            verdict=verdict,
            unavailable=unavailable.get(cell, ""),
        )
    return floor, compared


def _cell(
    config: ManifestCell,
    judged: CellJudgement,
    floor: Floor | None,
    every: Comparison,
    clean: Comparison,
    answered: Comparison,
    remark: str,
) -> CellFigures:
    blocks = {run.pair.block for runs in judged.runs.values() for run in runs.values()}
    dirty = [
        pair
        for pair, runs in judged.runs.items()
        if any(run.pair.block in judged.contaminated for run in runs.values())
    ]
    return CellFigures(
        config=config,
        complete=judged.complete,
        arms=tuple(_arm(judged, arm) for arm in config.arms),
        pairs=len(judged.runs),
        void=judged.void,
        blocks=len(blocks),
        contaminated=judged.contaminated,
        pairs_contaminated=len(dirty),
        comparison=every,
        without_contaminated=clean,
        successes=answered,
        findings=judged.findings,
        gates=_gates(judged, config.arms[0], floor, every, clean, len(blocks)),
        remark=remark,
    )


def _arm(judged: CellJudgement, arm: str) -> ArmFigures:
    runs = [by_arm[arm] for by_arm in judged.runs.values() if arm in by_arm]
    answered = [run for run in runs if run.ok]
    parts = [parts for run in runs if (parts := hops_of(run)) is not None]
    ttfts = [run.outcome.ttft_s for run in answered if run.outcome.ttft_s is not None]
    return ArmFigures(
        arm=arm,
        requests=len(runs),
        errors=len(runs) - len(answered),
        wrong_answers=sum(run.outcome.correct is False for run in answered),
        retries_of_successes=sum(run.retries for run in answered),
        latency=_latency(runs),
        latency_success=_latency(answered),
        ttft_p50_s=statistics.median(ttfts) if ttfts else None,
        hops=mean_hops(parts),
        without_record=len(runs) - len(parts),
        work=_totals([work for run in runs if (work := work_of(run)) is not None]),
        faults=judged.faults[arm],
        effects=judged.effects[arm],
    )


def _latency(runs: Sequence[Run]) -> LatencySummary | None:
    return latency_summary([run.outcome.latency_s for run in runs]) if runs else None


def _totals(works: Sequence[Work]) -> WorkTotals:
    return WorkTotals(
        prompt_tokens=sum(work.prompt_tokens for work in works),
        completion_tokens=sum(work.completion_tokens for work in works),
        cached_prompt_tokens=sum(work.cached_prompt_tokens for work in works),
        turns=sum(work.turns for work in works),
        tool_calls=sum(len(work.tools) for work in works),
        model_attempts=sum(work.model_attempts for work in works),
        tool_attempts=sum(work.tool_attempts for work in works),
        retries=sum(work.retries for work in works),
        new_connections=sum(work.new_connections for work in works),
    )


def _gates(
    judged: CellJudgement,
    baseline: str,
    floor: Floor | None,
    every: Comparison,
    clean: Comparison,
    blocks: int,
) -> tuple[Gate, ...]:
    if floor is None:
        return (Gate(name="aa_measured", passed=False, why="no noise floor: the A/A cell gives no interval"),)
    # Void pairs have their own gate, with a share that is allowed.
    kinds = Counter(finding.kind for finding in judged.findings if finding.kind != "pair_void")

    latency = _arm(judged, baseline).latency
    internal_mean_s = 0.0 if latency is None else latency.mean_s

    def ids(part: str) -> frozenset[str]:
        return frozenset(
            f"{arm} {one}" for arm, account in judged.faults.items() for one in getattr(account, part)
        )

    evidence = Evidence(
        floor=floor,
        verdict=every.verdict,
        verdict_clean=None if clean.delta is None else clean.verdict,
        internal_mean_s=internal_mean_s,
        unexplained_errors=kinds["error_unexplained"],
        faults_planned=ids("planned"),
        faults_delivered=ids("delivered"),
        faults_observed=ids("observed"),
        pairs=len(judged.runs),
        pairs_void=len(judged.void),
        blocks=blocks,
        blocks_contaminated=len(judged.contaminated),
        findings=tuple(f"{count} {kind}" for kind, count in sorted(kinds.items())),
    )
    return gates(evidence)

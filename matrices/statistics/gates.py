"""The gates of a claim: what has to hold, besides the verdict, before a row may be quoted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matrices.statistics.estimates import Steadiness
from matrices.statistics.selection import Share, Voids
from matrices.statistics.verdicts import Floor, Judgement, Latency, Verdict

CLAIM_LEVEL = 0.005
"""How often a claim may be wrong by chance; a verdict alone may be in one case of twenty."""
VOID_LIMIT = 0.10
ABANDONED_LIMIT = 0.10
CONTAMINATED_LIMIT = 0.25
SELECTIVE_LIMIT = 0.01
THIRD_ERRORS = 4.0
"""The number of its standard errors by which each third of the blocks has to bear a claim out."""
FEW_BLOCKS = 6
FEW_STEADY_LIMIT = 0.20
"""The limit for fewer than `FEW_BLOCKS` blocks, of which a third is one or two: one in five is refused by chance."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Evidence:
    """What the gates look at, for one row of the comparison; `compared` is the arm of which verdicts speak.

    `margin_s` is the margin of equivalence, `latency` what the verdict rests on: None in the A/A row, whose interval
    is at 99 % already, and where there is no estimate, as `steadiness` is there. `verdict_clean` is the verdict
    without contaminated blocks, None where too few are left to give one. `unexplained_errors` are errors that no
    fault caused, `lone_strata` strata of which one block's pairs would have to tell their own scatter.
    `pairs_abandoned` were begun, then cut off by an interruption or thrown away with a cell that broke, and run again.
    `findings` is what the checker holds against the row, `findings_elsewhere` how much it holds against the rest of
    the campaign. A `descriptive` row is one whose counts no plan could know. Arms that are not `alike` need not do the
    same work, and of the `unforeseen` ones no plan knew the calls, so that it could not count the faults on them.
    """

    compared: str
    floor: Floor
    margin_s: float
    latency: Latency | None
    judgement: Judgement
    verdict_clean: Verdict | None
    steadiness: Steadiness | None
    lone_strata: tuple[str, ...]
    unexplained_errors: int
    faults_planned: frozenset[str]
    faults_delivered: frozenset[str]
    faults_observed: frozenset[str]
    voids: Voids
    pairs_abandoned: int
    blocks: int
    blocks_contaminated: int
    findings: tuple[str, ...]
    findings_elsewhere: int
    descriptive: bool = False
    alike: bool = True
    unforeseen: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Gate:
    """One condition of a claim, whether it holds, and why; one that is not `applicable` has not passed, and is none."""

    name: str
    passed: bool
    why: str
    applicable: bool = True

    @property
    def failed(self) -> bool:
        """Whether it stands against a claim."""
        return self.applicable and not self.passed

    @property
    def word(self) -> str:
        """How it came out."""
        return "passed" if self.passed else "failed" if self.applicable else "not applicable"


def gates(evidence: Evidence) -> tuple[Gate, ...]:
    """Every gate of a row, passed or not, in the order of the report."""
    return (
        *_of_the_verdict(evidence),
        *_of_the_faults(evidence),
        *_of_the_pairs(evidence),
        *_of_the_day(evidence),
        *_of_the_plan(evidence),
    )


def claim_safe(checked: Sequence[Gate]) -> bool:
    """Whether a claim may be made: there are gates, and every one of them passed that says something of these arms."""
    return any(gate.passed for gate in checked) and not any(gate.failed for gate in checked)


def _of_the_verdict(evidence: Evidence) -> tuple[Gate, ...]:
    floor, judgement, compared = evidence.floor, evidence.judgement, evidence.compared
    interval = f"[{floor.estimate.low * 1e3:.3f}, {floor.estimate.high * 1e3:.3f}] ms"
    return (
        Gate(
            name="conclusive",
            passed=judgement.verdict is not Verdict.INCONCLUSIVE,
            why=f'the verdict is "{judgement.verdict.of(compared)}"',
        ),
        _beyond_chance(evidence),
        Gate(
            name="aa_unbiased",
            passed=floor.unbiased,
            why=f"A/A interval {interval} at {floor.estimate.confidence:.0%} "
            f"{'contains' if floor.unbiased else 'excludes'} zero",
        ),
        Gate(
            name="floor_fine",
            # A direction lies beyond the floor, however coarse that is: the verdict has seen to it.
            passed=judgement.verdict.is_direction or floor.bound_s <= evidence.margin_s,
            why=f"floor {floor.bound_s * 1e3:.3f} ms, margin {evidence.margin_s * 1e3:.3f} ms",
        ),
        Gate(
            name="failures_do_not_win",
            passed=not judgement.held_back,
            why=f'"{judgement.leaning.of(compared)}" over all pairs, which those that both arms answered do not bear '
            "out"
            if judgement.held_back
            else "no arm gains by its failures",
        ),
    )


def _beyond_chance(evidence: Evidence) -> Gate:
    """Whether the verdict would stand if it had to be right in nearly every case."""
    latency, verdict = evidence.latency, evidence.judgement.verdict
    passed = True
    if latency is not None and verdict.is_direction:
        passed = abs(latency.difference.value) > latency.difference.half_width(1 - CLAIM_LEVEL)
    elif latency is not None and verdict is Verdict.EQUIVALENT:
        half_s = latency.difference.half_width(1 - 2 * CLAIM_LEVEL)
        passed = abs(latency.difference.value) + half_s < latency.equivalence.margin_s
    return Gate(
        name="beyond_chance",
        passed=passed,
        why=f'"{verdict.of(evidence.compared)}" {"stands" if passed else "does not stand"} at a level of '
        f"{CLAIM_LEVEL:.1%}",
    )


def _of_the_faults(evidence: Evidence) -> tuple[Gate, ...]:
    return (
        Gate(
            name="errors_explained",
            passed=evidence.unexplained_errors == 0,
            why=f"{evidence.unexplained_errors} errors that no fault caused",
        ),
        _same_faults("faults_delivered", evidence.faults_planned, evidence.faults_delivered),
        _same_faults("faults_observed", evidence.faults_planned, evidence.faults_observed),
    )


def _of_the_pairs(evidence: Evidence) -> tuple[Gate, ...]:
    return (
        *(_of_the_voids(evidence) if evidence.alike else _no_voids()),
        _share(
            "pairs_kept",
            evidence.pairs_abandoned,
            evidence.voids.total.pairs,
            ABANDONED_LIMIT,
            "pairs abandoned and run again",
        ),
        Gate(
            name="strata_repeated",
            passed=not evidence.lone_strata,
            why=f"of stratum {', '.join(evidence.lone_strata)} one block alone has pairs: no scatter to be seen"
            if evidence.lone_strata
            else "every kind of pair that the plan cuts short is seen in two blocks or more",
        ),
    )


def _no_voids() -> tuple[Gate, ...]:
    why = "these arms need not do the same work: no pair is held to it, see the confound ledger"
    names = ("pairs_valid", "voids_by_stratum", "voids_by_order", "voids_unrelated")
    return tuple(Gate(name=name, passed=False, why=why, applicable=False) for name in names)


def _of_the_voids(evidence: Evidence) -> tuple[Gate, ...]:
    voids = evidence.voids
    total = voids.total
    hollow = [name for name, share in voids.by_stratum if _is_hollow(share)]
    first, second = voids.baseline_first, voids.compared_first
    gap = abs(_rate(first) - _rate(second))
    return (
        _share("pairs_valid", total.void, total.pairs, VOID_LIMIT, "pairs void"),
        Gate(
            name="voids_by_stratum",
            passed=not hollow,
            why=f"of stratum {', '.join(hollow)} all pairs are void, or more than one and {VOID_LIMIT:.0%}"
            if hollow
            else "every stratum keeps its pairs",
        ),
        Gate(
            name="voids_by_order",
            passed=gap <= VOID_LIMIT,
            why=f"{first.void} of {first.pairs} void with the baseline first, {second.void} of {second.pairs} with "
            f"the other arm first, at most {VOID_LIMIT:.0%} apart allowed",
        ),
        Gate(
            name="voids_unrelated",
            passed=voids.selective_p >= SELECTIVE_LIMIT,
            why=f"p {voids.selective_p:.3g} that void pairs differ from valid ones in time by chance, "
            f"at least {SELECTIVE_LIMIT:g} needed",
        ),
    )


def _of_the_day(evidence: Evidence) -> tuple[Gate, ...]:
    clean = "none" if evidence.verdict_clean is None else f'"{evidence.verdict_clean.of(evidence.compared)}"'
    verdict = evidence.judgement.verdict
    return (
        _steady(evidence),
        _share(
            "blocks_clean",
            evidence.blocks_contaminated,
            evidence.blocks,
            CONTAMINATED_LIMIT,
            "blocks contaminated",
        ),
        Gate(
            name="contamination_harmless",
            passed=verdict is evidence.verdict_clean,
            why=f'"{verdict.of(evidence.compared)}" with contaminated blocks, {clean} without',
        ),
        Gate(
            name="check_clean",
            passed=not evidence.findings and evidence.findings_elsewhere == 0,
            why=_findings(evidence),
        ),
    )


def _of_the_plan(evidence: Evidence) -> tuple[Gate, ...]:
    if not evidence.descriptive:
        return _not_foreseen(evidence.unforeseen)
    why = "faults strike hosts for whoever comes by: who is hurt, and for how long, is told and not predicted"
    return (Gate(name="predicted", passed=False, why=why),)


def _not_foreseen(arms: Sequence[str]) -> tuple[Gate, ...]:
    if not arms:
        return ()
    why = (
        f"what {' and '.join(arms)} would call was not known before: how many faults there are was not predicted, and "
        "those that each call met are held to the schedule by what was called"
    )
    return (Gate(name="predicted", passed=False, why=why, applicable=False),)


def _steady(evidence: Evidence) -> Gate:
    """Whether the beginning, the middle and the end of the cell all bear the verdict out."""
    seen, latency, verdict = evidence.steadiness, evidence.latency, evidence.judgement.verdict
    if seen is None:
        return Gate(name="steady", passed=False, why="too few blocks to see a drift")
    room_s, passed = THIRD_ERRORS * seen.third_error_s, True
    if latency is not None and verdict.is_direction:
        side = 1.0 if latency.difference.value > 0 else -1.0
        passed = all(side * third > room_s for third in seen.thirds_s)
    elif latency is not None and verdict is Verdict.EQUIVALENT:
        passed = all(abs(third) + room_s < latency.equivalence.margin_s for third in seen.thirds_s)
    if evidence.blocks < FEW_BLOCKS:
        passed = passed and seen.p_value >= FEW_STEADY_LIMIT
    thirds = ", ".join(f"{third * 1e3:+.3f}" for third in seen.thirds_s)
    return Gate(
        name="steady",
        passed=passed,
        why=f"{thirds} ms in the thirds of the blocks, each known to {room_s * 1e3:.3f} ms; p {seen.p_value:.3g} of "
        f"wandering as slowly by chance, which makes the interval {seen.growth:.2f} times as wide",
    )


def _findings(evidence: Evidence) -> str:
    told = list(evidence.findings)
    if evidence.findings_elsewhere:
        told.append(f"{evidence.findings_elsewhere} elsewhere in the campaign")
    return "; ".join(told) if told else "the checker found nothing"


def _is_hollow(share: Share) -> bool:
    """Whether a stratum lost all its pairs, or more than one and more than the share that is allowed in total."""
    return share.pairs > 0 and (share.void == share.pairs or share.void > max(1.0, VOID_LIMIT * share.pairs))


def _rate(share: Share) -> float:
    return share.void / share.pairs if share.pairs else 0.0


def _same_faults(name: str, planned: frozenset[str], seen: frozenset[str]) -> Gate:
    missing, unplanned = planned - seen, seen - planned
    return Gate(
        name=name,
        passed=not missing and not unplanned,
        why=f"{len(planned)} planned, {len(planned & seen)} of them seen here, {len(unplanned)} seen but not planned"
        + (f": {', '.join(sorted(missing | unplanned)[:5])}" if missing or unplanned else ""),
    )


def _share(name: str, count: int, total: int, limit: float, what: str) -> Gate:
    return Gate(
        name=name,
        passed=total > 0 and count <= limit * total,
        why=f"{count} of {total} {what}, at most {limit:.0%} allowed",
    )

"""What may be said: the noise floor, the verdict on a profile, and the gates a claim has to pass.

All of it is a pure function of estimates and counts, so that a report and a check of it agree.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from matrices.statistics import Estimate, PairSample, paired_difference

ALPHA = 0.05
# The A/A comparison gates a whole campaign, so it may raise a false alarm once in a hundred campaigns, not in twenty.
AA_CONFIDENCE = 0.99
VOID_LIMIT = 0.10
CONTAMINATED_LIMIT = 0.25
# "Parity within the floor" says little where the floor is a large part of what a request takes.
FLOOR_LIMIT = 0.10


class Verdict(StrEnum):
    """What the measurements support."""

    EXTERNAL_SLOWER = "external slower"
    EXTERNAL_FASTER = "external faster"
    PARITY = "parity within the floor"
    INCONCLUSIVE = "inconclusive"

    @property
    def is_direction(self) -> bool:
        """Whether it says that the arms differ."""
        return self in (Verdict.EXTERNAL_SLOWER, Verdict.EXTERNAL_FASTER)


@dataclass(frozen=True, kw_only=True, slots=True)
class Floor:
    """The campaign's noise floor: the difference, in seconds, of the internal arm against itself."""

    estimate: Estimate

    @property
    def bound_s(self) -> float:
        """The largest difference, in seconds, that the A/A interval still allows between equal arms."""
        return max(abs(self.estimate.low), abs(self.estimate.high))

    @property
    def unbiased(self) -> bool:
        """Whether the A/A interval contains zero."""
        return self.estimate.contains(0.0)


def measure_floor(aa_samples: Sequence[PairSample]) -> Floor:
    """The floor from the A/A pairs (`external_s` is the second internal arm). Raises as `paired_difference`."""
    return Floor(estimate=paired_difference(aa_samples, confidence=AA_CONFIDENCE))


def judge(delta: Estimate, adjusted_p: float, floor: Floor) -> Verdict:
    """The verdict on a profile from its difference, its Holm-adjusted p-value and the floor.

    A direction needs all of: an interval that excludes zero, an adjusted p under `ALPHA`, an estimate beyond the
    floor. Parity needs an interval that contains zero and lies within the floor: a wide floor must not turn a
    difference that the interval resolves into parity. Anything else is inconclusive.
    """
    if adjusted_p < ALPHA and delta.low > 0 and delta.value > floor.bound_s:
        return Verdict.EXTERNAL_SLOWER
    if adjusted_p < ALPHA and delta.high < 0 and delta.value < -floor.bound_s:
        return Verdict.EXTERNAL_FASTER
    if delta.contains(0.0) and -floor.bound_s <= delta.low and delta.high <= floor.bound_s:
        return Verdict.PARITY
    return Verdict.INCONCLUSIVE


def judge_aa(floor: Floor) -> Verdict:
    """The A/A row's own verdict: parity if its interval contains zero, else the direction of the bias.

    "External" there is the second internal arm, so a direction means that the harness itself makes a difference.
    """
    if floor.unbiased:
        return Verdict.PARITY
    return Verdict.EXTERNAL_SLOWER if floor.estimate.low > 0 else Verdict.EXTERNAL_FASTER


@dataclass(frozen=True, kw_only=True, slots=True)
class Evidence:
    """What the gates look at, for one row of the comparison.

    `verdict_clean` is the verdict without contaminated blocks, None where too few are left to give one;
    `internal_mean_s` the internal arm's mean latency, 0 where there is none.
    `unexplained_errors` are errors that no fault caused; `findings` is what the checker holds against the row.
    """

    floor: Floor
    verdict: Verdict
    verdict_clean: Verdict | None
    internal_mean_s: float
    unexplained_errors: int
    faults_planned: frozenset[str]
    faults_delivered: frozenset[str]
    faults_observed: frozenset[str]
    pairs: int
    pairs_void: int
    blocks: int
    blocks_contaminated: int
    findings: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Gate:
    """One condition of a claim, whether it holds, and why."""

    name: str
    passed: bool
    why: str


def gates(evidence: Evidence) -> tuple[Gate, ...]:
    """Every gate of a row, passed or not, in the order of the report."""
    floor = evidence.floor.estimate
    clean = "none" if evidence.verdict_clean is None else f'"{evidence.verdict_clean}"'
    return (
        Gate(
            name="aa_unbiased",
            passed=evidence.floor.unbiased,
            why=f"A/A interval [{floor.low * 1e3:.3f}, {floor.high * 1e3:.3f}] ms "
            f"{'contains' if evidence.floor.unbiased else 'excludes'} zero",
        ),
        Gate(
            name="floor_fine",
            passed=evidence.floor.bound_s <= FLOOR_LIMIT * evidence.internal_mean_s,
            why=f"floor {evidence.floor.bound_s * 1e3:.3f} ms, internal mean {evidence.internal_mean_s * 1e3:.3f} ms, "
            f"at most {FLOOR_LIMIT:.0%} allowed",
        ),
        Gate(
            name="errors_explained",
            passed=evidence.unexplained_errors == 0,
            why=f"{evidence.unexplained_errors} errors that no fault caused",
        ),
        _same_faults("faults_delivered", evidence.faults_planned, evidence.faults_delivered),
        _same_faults("faults_observed", evidence.faults_planned, evidence.faults_observed),
        _share("pairs_valid", evidence.pairs_void, evidence.pairs, VOID_LIMIT, "pairs void"),
        _share(
            "blocks_clean",
            evidence.blocks_contaminated,
            evidence.blocks,
            CONTAMINATED_LIMIT,
            "blocks contaminated",
        ),
        Gate(
            name="contamination_harmless",
            passed=evidence.verdict is evidence.verdict_clean,
            why=f'"{evidence.verdict}" with contaminated blocks, {clean} without',
        ),
        Gate(
            name="check_clean",
            passed=not evidence.findings,
            why="; ".join(evidence.findings) if evidence.findings else "the checker found nothing",
        ),
    )


def claim_safe(checked: Sequence[Gate]) -> bool:
    """Whether a claim may be made: there are gates, and every one of them passed."""
    return len(checked) > 0 and all(gate.passed for gate in checked)


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

"""What the gates of a cell are asked about: everything that was measured and found of it, in their terms."""

from __future__ import annotations

import collections

from matrices.checks.check import CellJudgement
from matrices.planning.expectation import Expectation
from matrices.report.comparison import CellSamples, PairedLatency
from matrices.statistics.gates import Evidence, Gate, gates
from matrices.statistics.selection import voids_of
from matrices.statistics.verdicts import Floor


def gates_of(
    judged: CellJudgement,
    samples: CellSamples,
    floor: Floor | None,
    every: PairedLatency,
    clean: PairedLatency,
    *,
    expected: Expectation,
    blocks: int,
    elsewhere: int,
) -> tuple[Gate, ...]:
    """The gates of a cell, each with whether it passed and why; one that failed where no A/A floor is known."""
    if floor is None:
        return (Gate(name="aa_measured", passed=False, why="no noise floor: the A/A cell gives no interval"),)
    kinds = collections.Counter(finding.kind for finding in judged.findings)

    def ids(part: str) -> frozenset[str]:
        return frozenset(
            f"{arm} {one}" for arm, account in judged.faults.items() for one in getattr(account, part)
        )

    return gates(
        Evidence(
            descriptive=bool(judged.recoveries),
            alike=expected.comparison.alike,
            unforeseen=tuple(sorted(expected.unforeseen)),
            compared=expected.comparison.compared.name,
            floor=floor,
            margin_s=every.margin_s or 0.0,
            latency=every.latency,
            judgement=every.judgement,
            verdict_clean=None if clean.delta is None else clean.verdict,
            steadiness=every.steadiness,
            lone_strata=every.lone_strata,
            unexplained_errors=kinds["error_unexplained"],
            faults_planned=ids("planned"),
            faults_delivered=ids("delivered"),
            faults_observed=ids("observed"),
            voids=voids_of(samples.void, samples.valid),
            pairs_abandoned=len(judged.abandoned) + judged.pairs_discarded,
            blocks=blocks,
            blocks_contaminated=len(judged.contaminated),
            findings=tuple(f"{count} {kind}" for kind, count in sorted(kinds.items())),
            findings_elsewhere=elsewhere,
        )
    )

"""What a campaign may be quoted for: each row's sentence, whether it is safe, and the gate that decided."""

from __future__ import annotations

from dataclasses import dataclass

from matrices.report.comparison import AA
from matrices.report.figures import CellFigures, Figures
from matrices.report.sections.verdict import sentence

SAFE = "claim-safe"
EXPLORATORY = "exploratory"


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """One row's claim. `decided_by` is the first gate that failed, or "all gates"; `because` is what it said.

    `pairs` are those that count, in so many `blocks`.
    """

    campaign: str
    cell: str
    profile: str
    pairs: int
    blocks: int
    verdict: str
    reliability: str
    mark: str
    decided_by: str
    because: str
    says: str


def claims_of(campaign: str, figures: Figures) -> tuple[Claim, ...]:
    """A claim for each profile, in the order of the report; the A/A row claims nothing."""
    return tuple(_claim(campaign, figures, cell) for cell in figures.cells if cell.config.name != AA)


def _claim(campaign: str, figures: Figures, cell: CellFigures) -> Claim:
    failed = [gate for gate in cell.gates if gate.failed]
    passed = sum(gate.passed for gate in cell.gates)
    return Claim(
        campaign=campaign,
        cell=cell.config.name,
        profile=cell.config.profile,
        pairs=cell.comparison.pairs,
        blocks=cell.blocks,
        verdict=cell.verdict,
        reliability=cell.reliability_verdict,
        mark=SAFE if cell.claim_safe else EXPLORATORY,
        decided_by=failed[0].name if failed else "all gates",
        because=failed[0].why if failed else f"{passed} of {passed} applicable gates passed",
        says=sentence(figures, cell).text,
    )

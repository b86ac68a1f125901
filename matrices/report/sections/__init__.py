"""What a report is made of, a file each: what it says of the campaign, and what it says of each cell."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from matrices.report.document import Part, Section
from matrices.report.figures import CellFigures, Figures
from matrices.report.sections import (
    accuracy,
    conditions,
    curves,
    effects,
    families,
    findings,
    gates,
    harm,
    hops,
    latency,
    overview,
    reading,
    recovery,
    results,
    user_turns,
    verdict,
    voids,
    ways,
    work,
)

OF_CAMPAIGN: Mapping[str, Callable[[Figures], Iterable[Part]]] = {
    "overview": overview.parts,
    "results": results.parts,
    "reading": reading.parts,
    "findings": findings.of_campaign,
    "curves": curves.parts,
}
"""What is said of the campaign, in this order."""

OF_CELL: Mapping[str, Callable[[Figures, CellFigures], Iterable[Part]]] = {
    "verdict": verdict.parts,
    "latency": latency.parts,
    "user_turns": user_turns.parts,
    "families": families.parts,
    "accuracy": accuracy.parts,
    "effects": effects.parts,
    "harm": harm.parts,
    "recovery": recovery.parts,
    "hops": hops.parts,
    "work": work.parts,
    "conditions": conditions.parts,
    "ways": ways.parts,
    "voids": voids.parts,
    "gates": gates.parts,
    "findings": findings.of_cell,
}
"""What is said of each cell, in this order."""


def document(figures: Figures) -> Section:
    """The whole report: the campaign, and within it a section for each cell."""
    return Section(
        title=f"treni-route, {figures.manifest.created_utc}",
        parts=tuple(part for say in OF_CAMPAIGN.values() for part in say(figures)),
        sections=tuple(
            Section(
                title=cell.config.profile,
                parts=tuple(part for say in OF_CELL.values() for part in say(figures, cell)),
            )
            for cell in figures.cells
        ),
    )

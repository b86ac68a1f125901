"""What a report is made of, a file each: what it says of the campaign, and what it says of each cell."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from matrices.report.document import Part, Section
from matrices.report.figures import CellFigures, Figures
from matrices.report.sections import (
    accuracy,
    blocks,
    charts,
    conditions,
    configuration,
    curves,
    effects,
    families,
    findings,
    gates,
    harm,
    hops,
    in_short,
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

ON_PAGE: Mapping[str, tuple[Callable[[Figures], Iterable[Part]], ...]] = {
    "Verdict": (results.parts, in_short.parts),
    "Paired differences": (charts.differences,),
    "Ratio by profile": (charts.ratio,),
    "Where the time goes": (charts.time,),
    "Errors, retries and duplicates": (charts.trouble,),
    "Swept settings": (curves.parts,),
    "Conditions": (charts.load, blocks.parts),
    "How it was measured": (overview.parts, reading.parts, findings.of_campaign),
}
"""What a page with charts says of the campaign, section by section, before it comes to the cells."""


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


def page(figures: Figures) -> Section:
    """The whole report with charts, the verdict first: the campaign, a section for each cell, the configuration."""
    of_campaign = (
        Section(title=title, parts=tuple(part for say in says for part in say(figures)))
        for title, says in ON_PAGE.items()
    )
    text = document(figures)
    of_cells = (
        replace(told, parts=(*told.parts[:1], *charts.of_cell(figures, cell), *told.parts[1:]))
        for told, cell in zip(text.sections, figures.cells, strict=True)
    )
    return Section(
        title=text.title,
        parts=(),
        sections=(
            *(section for section in of_campaign if section.parts),
            Section(title="Profiles", parts=(), sections=tuple(of_cells)),
            Section(title="Configuration", parts=tuple(configuration.parts(figures))),
        ),
    )

"""Which blocks were contaminated, and what the figures are without them."""

from __future__ import annotations

from collections.abc import Iterator

from matrices.report.document import Part, paragraph
from matrices.report.figures import CellFigures, Figures
from matrices.report.formats import interval


def parts(figures: Figures, cell: CellFigures) -> Iterator[Part]:
    """A paragraph, also where there is no such block."""
    if not cell.contaminated:
        yield paragraph(f"No contaminated block among {cell.blocks}.")
        return
    blocks = "; ".join(f"block {block}: {why}" for block, why in cell.contaminated.items())
    clean = cell.without_contaminated
    figure = clean.unavailable if clean.delta is None else interval(clean.delta)
    yield paragraph(f"Contaminated blocks: {blocks}. Without them: {figure}, {cell.said(clean)}.")

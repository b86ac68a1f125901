"""What the checker holds against the campaign as a whole, and against each cell."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from matrices.report.document import Listing, Part, paragraph
from matrices.report.figures import CellFigures, Figures

MAX_LISTED = 20
"""How many items of one cell are written out; summary.json has them all."""


def of_campaign(figures: Figures) -> Iterator[Part]:
    """The findings that concern no cell in particular, if there are any."""
    if figures.unplanned:
        yield Listing(lead="", items=tuple(map(str, figures.unplanned)))


def of_cell(figures: Figures, cell: CellFigures) -> Iterator[Part]:
    """The findings of the cell, or that there are none."""
    if cell.findings:
        yield listed("The checker found:", [str(finding) for finding in cell.findings])
    else:
        yield paragraph("The checker found nothing.")


def listed(lead: str, lines: Sequence[str]) -> Listing:
    """The lines as a listing, cut after `MAX_LISTED`."""
    more = len(lines) - MAX_LISTED
    rest = [f"and {more} more, in summary.json"] if more > 0 else []
    return Listing(lead=lead, items=(*lines[:MAX_LISTED], *rest))

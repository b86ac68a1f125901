"""Which pairs do not count, and which were run again."""

from __future__ import annotations

from collections.abc import Iterator

from matrices.report.document import Part, paragraph
from matrices.report.figures import CellFigures, Figures
from matrices.report.sections.findings import listed


def parts(figures: Figures, cell: CellFigures) -> Iterator[Part]:
    """A paragraph, and the void pairs with the reason of each."""
    none = "" if cell.void else f"No void pair among {cell.pairs}."
    again = f"Cut off by an interruption and run again: {cell.abandoned} pairs." if cell.abandoned else ""
    whole = [f"The whole cell was run again after it broke: {why}." for why in cell.discarded]
    if said := " ".join(filter(None, (none, again, *whole))):
        yield paragraph(said)
    if cell.void:
        yield listed("Void pairs:", [f"pair {pair}: {why}" for pair, why in cell.void.items()])

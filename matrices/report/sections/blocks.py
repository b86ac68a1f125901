"""Which blocks of a campaign are contaminated, and what that changes."""

from __future__ import annotations

from collections.abc import Iterator

from matrices.report.document import Part, paragraph, table
from matrices.report.figures import Figures
from matrices.report.formats import interval


def parts(figures: Figures) -> Iterator[Part]:
    """A table with a row for each contaminated block, and the results without them; a sentence where there is none."""
    spoilt = [cell for cell in figures.cells if cell.contaminated]
    if not spoilt:
        yield paragraph("No contaminated block.")
        return
    yield table(
        ("contaminated block", "why"),
        [
            (f"{cell.config.name}, block {block}", why)
            for cell in spoilt
            for block, why in cell.contaminated.items()
        ],
    )
    yield table(
        ("with and without them", "difference with", "verdict with", "difference without", "verdict without"),
        [
            (
                cell.config.name,
                *(
                    text
                    for one in (cell.comparison, cell.without_contaminated)
                    for text in (
                        one.unavailable if one.delta is None else interval(one.delta),
                        cell.said(one),
                    )
                ),
            )
            for cell in spoilt
        ],
    )

"""Whether both arms did the same work."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from matrices.report.document import Part, paragraph
from matrices.report.figures import CellFigures, Figures
from matrices.report.sections.by_arm import by_arm
from matrices.report.totals import WorkTotals


def parts(figures: Figures, cell: CellFigures) -> Iterator[Part]:
    """A table of tokens, calls and attempts over all requests; "-" where an arm does not tell."""
    names = [field.name for field in dataclasses.fields(WorkTotals)]
    if all(arm.tokens for arm in cell.sides):
        names.remove("tokens_told")
    rows = [
        (
            name.replace("_", " "),
            [str(getattr(arm.work, name)) if cell.knows(arm, name) else "-" for arm in cell.arms],
        )
        for name in names
    ]
    yield by_arm(cell, "confound ledger, totals", rows)
    if told := [arm.name for arm in cell.sides if not arm.seen]:
        yield paragraph(
            f"What {' and '.join(told)} says of its tool calls and tokens is its own word: nobody else saw them."
        )

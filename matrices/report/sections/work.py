"""Whether both arms did the same work."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from matrices.report.document import Part
from matrices.report.figures import CellFigures, Figures, WorkTotals
from matrices.report.sections.by_arm import by_arm


def parts(figures: Figures, cell: CellFigures) -> Iterator[Part]:
    """A table of tokens, calls and attempts over all requests."""
    names = [field.name for field in dataclasses.fields(WorkTotals)]
    rows = [(name.replace("_", " "), [str(getattr(arm.work, name)) for arm in cell.arms]) for name in names]
    yield by_arm(cell, "confound ledger, totals", rows)

"""Tables with a column for each arm of a cell."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from matrices.report.document import Table, table
from matrices.report.figures import CellFigures


def by_arm(cell: CellFigures, name: str, rows: Iterable[tuple[str, Sequence[str]]]) -> Table:
    """The table of that name; each row has its label and a text for each arm, the baseline first."""
    return table([name, *(arm.arm for arm in cell.arms)], [[label, *texts] for label, texts in rows])

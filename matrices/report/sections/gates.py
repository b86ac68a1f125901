"""Which gates of a claim a cell passes."""

from __future__ import annotations

from collections.abc import Iterator

from matrices.report.document import Part, strong, table
from matrices.report.figures import CellFigures, Figures


def parts(figures: Figures, cell: CellFigures) -> Iterator[Part]:
    """A table with a row for each gate."""
    yield table(
        ("gate", "", "why"),
        [(gate.name, strong(gate.word) if gate.failed else gate.word, gate.why) for gate in cell.gates],
    )

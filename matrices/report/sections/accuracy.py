"""How many answers are right, where nobody knew before that the model answers the suite rightly."""

from __future__ import annotations

from collections.abc import Iterator

from matrices.report.document import Part, paragraph
from matrices.report.figures import CellFigures, Figures
from matrices.report.formats import number


def parts(figures: Figures, cell: CellFigures) -> Iterator[Part]:
    """A sentence with the right answers of each arm, of those that it gave."""
    if not figures.examines:
        return
    said = (
        f"{arm.correct} of {arm.successes} {arm.arm}"
        + ("" if arm.accuracy is None else f" ({number(arm.accuracy * 100, 1)} %)")
        for arm in cell.arms
    )
    yield paragraph(f"Right answers, of those given: {', '.join(said)}.")

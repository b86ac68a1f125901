"""The pairs whose tasks need a tool apart from those that need none, for arms that need not do the same work."""

from __future__ import annotations

from collections.abc import Iterator

from matrices.report.document import Part, table
from matrices.report.figures import CellFigures, Figures
from matrices.report.formats import interval, ms, number


def parts(figures: Figures, cell: CellFigures) -> Iterator[Part]:
    """A table with a row for each family."""
    if not cell.families:
        return
    baseline, compared = cell.sides.names
    yield table(
        (
            "tasks",
            "pairs",
            f"{baseline} mean ms",
            f"{compared} mean ms",
            "ratio",
            "difference",
            f"{baseline} ms/token",
            f"{compared} ms/token",
        ),
        [
            (
                one.name,
                str(one.comparison.pairs),
                *(ms(mean) or "-" for mean in one.means_s),
                "-" if one.comparison.ratio is None else number(one.comparison.ratio.value, 3),
                "-" if one.comparison.delta is None else interval(one.comparison.delta),
                *(ms(per_token) or "-" for per_token in one.per_token_s),
            )
            for one in cell.families
        ],
    )

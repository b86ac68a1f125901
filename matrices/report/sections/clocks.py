"""How the clocks of other hosts lay to the harness's."""

from __future__ import annotations

from collections.abc import Iterator

from matrices.report.clocks import RoleClock
from matrices.report.document import Part, paragraph, table
from matrices.report.figures import CellFigures, Figures
from matrices.report.formats import ms, number


def parts(figures: Figures, cell: CellFigures) -> Iterator[Part]:
    """A table with a row for each role, where any runs on a host that the harness did not start it on."""
    if not cell.clocks:
        return
    headings = ("clock of", "machine", "ahead ms", "round trip ms", "gains ppm")
    yield table(headings, map(_row, cell.clocks))
    yield paragraph(
        "Ahead of the harness's wall clock, and gaining on its monotonic one, by the quickest of many exchanges at the "
        "start and at the end of the cell. No figure here takes moments of two clocks together."
    )


def _row(clock: RoleClock) -> tuple[str, ...]:
    return (
        clock.role,
        clock.machine,
        f"{ms(clock.offset_s, sign=True)} ± {ms(clock.error_s)}",
        ms(2 * clock.error_s),
        "-"
        if clock.drift_ppm is None
        else f"{number(clock.drift_ppm, 1, sign=True)} ± {number(clock.drift_error_ppm, 1)}",
    )

"""How the clocks of other hosts lay to the harness's, and how far apart declared places were."""

from __future__ import annotations

from collections.abc import Iterator

from matrices.report.document import Part, paragraph, table
from matrices.report.figures import CellFigures, Figures
from matrices.report.formats import ms, number
from matrices.report.ways import HopTrip, RoleClock


def parts(figures: Figures, cell: CellFigures) -> Iterator[Part]:
    """A table of clocks where any role runs on a host of its own, and one of hops whose length was declared."""
    clocks, trips = cell.ways.clocks, cell.ways.trips
    if clocks:
        declared = any(clock.region for clock in clocks)
        headings = ("clock of", "machine", "ahead ms", "round trip ms", "gains ppm")
        yield table(
            (*headings, *(("region", "declared ms") if declared else ())),
            (_clock(clock, declared=declared) for clock in clocks),
        )
        yield paragraph(
            "Ahead of the harness's wall clock, and gaining on its monotonic one, by the quickest of many exchanges "
            "at the start and at the end of the cell. No figure here takes moments of two clocks together."
        )
    if trips:
        yield table(("hop", "way", "round trip declared", "shortest trip ms"), map(_trip, trips))
        yield paragraph("A trip holds what both ends do for it, beside the engine's and the tools' own time.")


def _clock(clock: RoleClock, *, declared: bool) -> tuple[str, ...]:
    return (
        clock.role,
        clock.machine,
        f"{ms(clock.offset_s, sign=True)} ± {ms(clock.error_s)}",
        ms(2 * clock.error_s),
        "-"
        if clock.drift_ppm is None
        else f"{number(clock.drift_ppm, 1, sign=True)} ± {number(clock.drift_error_ppm, 1)}",
        *((clock.region or "-", ms(clock.declared_s) or "-") if declared else ()),
    )


def _trip(trip: HopTrip) -> tuple[str, ...]:
    return (f"{trip.arm}, {trip.hop}", trip.places, trip.declared, ms(trip.trip_s) or "-")

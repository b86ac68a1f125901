"""Who else was hurt where faults break hosts."""

from __future__ import annotations

from collections.abc import Iterator

from matrices.report.document import Part
from matrices.report.figures import CellFigures, Figures
from matrices.report.formats import number
from matrices.report.sections.by_arm import by_arm


def parts(figures: Figures, cell: CellFigures) -> Iterator[Part]:
    """A table of outages and recoveries; nothing for a cell whose faults break no host."""
    if not cell.harm:
        return
    rows = [
        ("faults that broke a host", [str(row.faults) for row in cell.harm]),
        ("recovery, median s", [number(row.recovery_median_s, 3) or "-" for row in cell.harm]),
        ("recovery, longest s", [number(row.recovery_max_s, 3) or "-" for row in cell.harm]),
        ("longest outage by role, s", [_outages(row.roles) for row in cell.harm]),
        ("other requests in flight then", [str(row.in_flight) for row in cell.harm]),
        ("of these, hurt", [str(row.hurt) for row in cell.harm]),
        ("host grew by, MiB", [number(row.host_grown_mb, 1) or "-" for row in cell.harm]),
    ]
    yield by_arm(cell, "who else was hurt", rows)


def _outages(roles: dict[str, float]) -> str:
    return ", ".join(f"{role} {number(out_s, 3)}" for role, out_s in sorted(roles.items())) or "-"

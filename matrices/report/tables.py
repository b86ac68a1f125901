"""The table of a report, a row for each profile, and how its numbers are written."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass

from rich import box
from rich.console import Console
from rich.table import Table

from matrices.arms.arm import Comparison
from matrices.report.figures import ArmFigures, CellFigures, Figures
from matrices.statistics.estimates import LatencySummary
from matrices.statistics.verdicts import ReliabilityVerdict, Verdict

UNBOUNDED = "unbounded"
"""How an end of an interval is written that the data do not bound."""


@dataclass(frozen=True, slots=True)
class CellRow:
    """A row of comparison.csv; `floor_s` is None where there is no floor."""

    cell: CellFigures
    floor_s: float | None

    @property
    def first(self) -> ArmFigures:
        """The figures of the row's baseline arm."""
        return self.cell.arms[0]

    @property
    def second(self) -> ArmFigures:
        """The arm that is compared with it: in the A/A row the second instance of the baseline."""
        return self.cell.arms[1]


def number(value: float | None, digits: int, *, sign: bool = False) -> str:
    """The value with that many decimals, never "-0"; "unbounded" for an infinity, "" for None."""
    if value is None:
        return ""
    if math.isinf(value):
        return UNBOUNDED
    return f"{round(value, digits) + 0.0:{'+' if sign else ''}.{digits}f}"


def ms(value_s: float | None, digits: int = 3, *, sign: bool = False) -> str:
    """Seconds in milliseconds; "" for None."""
    return "" if value_s is None else number(value_s * 1e3, digits, sign=sign)


def latency_ms(summary: LatencySummary | None, name: str) -> str:
    """One part of the summary in milliseconds; "" for None."""
    return "" if summary is None else ms(getattr(summary, name))


def yes(value: bool) -> str:
    """The word for a truth value."""
    return "yes" if value else "no"


def cell_rows(figures: Figures) -> list[CellRow]:
    """The rows of the table, and of comparison.csv."""
    floor_s = None if figures.floor is None else figures.floor.bound_s
    return [CellRow(cell, floor_s) for cell in figures.cells]


LEFT = frozenset({0, 8, 9, 10})
"""The columns whose text is set to the left."""

VERDICT = 8
"""The column of the verdict on latency, which may take more than one line."""


def headings(sides: Comparison) -> tuple[tuple[str, str], ...]:
    """Each heading in its two lines."""
    baseline, compared = sides
    return (
        ("profile", ""),
        (baseline.name, "mean ms"),
        (compared.name, "mean ms"),
        ("ratio", "[CI95]"),
        ("difference ms", "[CI95]"),
        ("error rate", f"{baseline.short} / {compared.short}"),
        (compared.name, "retries"),
        ("faults", "p/d/o"),
        ("latency", "verdict"),
        (compared.name, "fails"),
        ("claim", "safe"),
    )


_FAILS = {
    ReliabilityVerdict.FAILS_MORE: "more",
    ReliabilityVerdict.FAILS_LESS: "less",
    ReliabilityVerdict.SAME: "as often",
    ReliabilityVerdict.INCONCLUSIVE: "unclear",
}
"""The verdict on reliability in the word that fits its column."""


def _rate(value: float | None) -> str:
    return "0" if value == 0 else number(value, 4) or "-"


def table_row(row: CellRow) -> tuple[str, ...]:
    """The row under `headings`; "-" where there is no figure, an interval in a line of its own.

    Faults are planned/delivered/observed, both arms.
    """
    comparison = row.cell.comparison
    ratio = delta = "-"
    if comparison.ratio is not None:
        one = comparison.ratio
        ratio = f"{number(one.value, 3)}\n[{number(one.low, 2)}, {number(one.high, 2)}]"
    if comparison.delta is not None:
        one = comparison.delta
        digits = 2 if max(abs(one.low), abs(one.high)) < 0.01 else 1
        low, high = ms(one.low, digits, sign=True), ms(one.high, digits, sign=True)
        delta = f"{ms(one.value, digits, sign=True)}\n[{low}, {high}]"
    parts = ("planned", "delivered", "observed")
    faults = [sum(len(getattr(arm.faults, part)) for arm in row.cell.arms) for part in parts]
    return (
        row.cell.config.name,
        latency_ms(row.first.latency, "mean_s") or "-",
        latency_ms(row.second.latency, "mean_s") or "-",
        ratio,
        delta,
        f"{_rate(row.first.error_rate)} / {_rate(row.second.error_rate)}",
        number(row.second.retries_mean_success, 3) or "-",
        "/".join(map(str, faults)),
        row.cell.verdict,
        _FAILS[row.cell.reliability.verdict],
        yes(row.cell.claim_safe),
    )


def table_text(figures: Figures, *, width: int = 120) -> str:
    """The table as it stands on the terminal, `width` characters wide, without colour."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=0)
    directions = [verdict.of(figures.sides.compared.name) for verdict in Verdict if verdict.is_direction]
    for column, heading in enumerate(headings(figures.sides)):
        verdict = column == VERDICT
        table.add_column(
            "\n".join(heading),
            justify="left" if column in LEFT else "right",
            no_wrap=not verdict,
            min_width=max(map(len, directions)) if verdict else None,
        )
    for row in cell_rows(figures):
        table.add_row(*table_row(row))
    buffer = io.StringIO()
    Console(file=buffer, width=width, color_system=None, legacy_windows=False).print(table)
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines()) + "\n"

"""The table of a report, a row for each profile, and how its numbers are written."""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console
from rich.table import Table

from matrices.arms.arm import Comparison
from matrices.report.figures import ArmFigures, CellFigures, Figures
from matrices.statistics.estimates import LatencySummary
from matrices.statistics.verdicts import ReliabilityVerdict

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

MAX_NAME_CHARS = 8
"""How long the name of an arm may be that stands in a heading; of a longer one the short form does."""

VERDICT = 8
"""The column of the verdict on latency, which may take more than one line."""


def headings(sides: Comparison) -> tuple[tuple[str, str], ...]:
    """Each heading in its two lines."""
    baseline, compared = sides
    one, other = (arm.name if len(arm.name) <= MAX_NAME_CHARS else arm.short for arm in sides)
    return (
        ("profile", ""),
        (one, "mean ms"),
        (other, "mean ms"),
        ("ratio", "[CI95]"),
        ("difference ms", "[CI95]"),
        ("error rate", f"{baseline.short} / {compared.short}"),
        (other, "retries"),
        ("faults", "p/d/o"),
        ("latency", "verdict"),
        (other, "fails"),
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


_LEFT_OUT = (7, 6, 5, 1, 2, 4, 9, 3)
"""The columns that give way where the terminal is narrow, the first to go first; the verdict and the claim never do."""

_LEGEND = (
    "ms: the client's time to an outcome, answer or error",
    "ratio, difference: the second arm against the first",
    "faults: planned/delivered/observed",
    "claim safe: every gate holds",
)


def table_text(figures: Figures, *, width: int = 120) -> str:
    """The table as it stands on a terminal of `width` characters, without colour, and a legend.

    Columns that do not fit are left out, and named; profile, verdict and claim always stand.
    """
    heads = headings(figures.sides)
    shown = list(range(len(heads)))
    text = _drawn(figures, shown)
    for given_up in (None, *_LEFT_OUT):
        if max(map(len, text.split("\n"))) <= width:
            break
        if given_up is not None:
            shown.remove(given_up)
        text = _drawn(figures, shown, narrow=True)
    legend = textwrap.fill("; ".join(_LEGEND) + ".", max(width, 40))
    if missing := [" ".join(heads[column]).strip() for column in range(len(heads)) if column not in shown]:
        told = f"Left out on a terminal this narrow: {', '.join(missing)}; summary.md has them."
        legend += "\n" + textwrap.fill(told, max(width, 40))
    return f"{text}{legend}\n"


def _drawn(figures: Figures, shown: Sequence[int], *, narrow: bool = False) -> str:
    """The columns of the table, as wide as they are; with `narrow` the verdict takes more lines."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=0)
    for column in shown:
        words = max(len("equivalent within"), len(figures.sides.compared.name))
        table.add_column(
            "\n".join(headings(figures.sides)[column]),
            justify="left" if column in LEFT else "right",
            max_width=words if narrow and column == VERDICT else None,
        )
    for row in map(table_row, cell_rows(figures)):
        table.add_row(*(row[column] for column in shown))
    buffer = io.StringIO()
    Console(file=buffer, width=10_000, color_system=None, legacy_windows=False).print(table)
    lines = [line.rstrip() for line in buffer.getvalue().split("\n")]
    return "\n".join(lines).strip("\n") + "\n\n"

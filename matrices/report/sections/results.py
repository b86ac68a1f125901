"""The table of results, a row for each cell."""

from __future__ import annotations

from collections.abc import Iterator

from matrices.arms.arm import Comparison
from matrices.report.document import Column, Part, Table
from matrices.report.figures import CellFigures, Figures
from matrices.report.formats import latency_ms, ms, number, yes
from matrices.report.networks import emulated
from matrices.statistics.verdicts import ReliabilityVerdict

MAX_NAME_CHARS = 8
"""How long the name of an arm may be that stands in a heading; of a longer one the short form does."""

_FAILS = {
    ReliabilityVerdict.FAILS_MORE: "more",
    ReliabilityVerdict.FAILS_LESS: "less",
    ReliabilityVerdict.SAME: "as often",
    ReliabilityVerdict.INCONCLUSIVE: "unclear",
}
"""The verdict on reliability in the word that fits its column."""


def parts(figures: Figures) -> Iterator[Part]:
    """The table of `results` and nothing else."""
    yield results(figures)


def results(figures: Figures) -> Table:
    """The table; "-" stands where there is no figure, an interval in a line of its own."""
    return Table(columns=_columns(figures.sides), rows=tuple(map(_row, figures.cells)))


def legend(figures: Figures) -> tuple[str, ...]:
    """The meaning of the columns, in few words."""
    baseline, compared = figures.sides.names
    return (
        "ms: the client's time to an outcome, answer or error",
        f"ratio, difference: {compared} against {baseline}",
        "faults: planned/delivered/observed",
        "claim safe: every gate holds",
        *((f"network: {network}",) if (network := emulated(figures.manifest)) else ()),
    )


def _columns(sides: Comparison) -> tuple[Column, ...]:
    one, other = (arm.name if len(arm.name) <= MAX_NAME_CHARS else arm.short for arm in sides)
    rates = f"{sides.baseline.short} / {sides.compared.short}"
    return (
        Column(heading=("profile", ""), left=True),
        Column(heading=(one, "mean ms"), rank=5),
        Column(heading=(other, "mean ms"), rank=4),
        Column(heading=("ratio", "[CI95]"), rank=1),
        Column(heading=("difference ms", "[CI95]"), rank=3),
        Column(heading=("error rate", rates), rank=6),
        Column(heading=(other, "retries"), rank=7),
        Column(heading=("faults", "p/d/o"), rank=8),
        Column(heading=("latency", "verdict"), left=True, wraps=True),
        Column(heading=(other, "fails"), left=True, rank=2),
        Column(heading=("claim", "safe"), left=True),
    )


def _row(cell: CellFigures) -> tuple[str, ...]:
    """Faults are planned/delivered/observed, both arms."""
    first, second = cell.arms
    ratio = delta = "-"
    if cell.comparison.ratio is not None:
        one = cell.comparison.ratio
        ratio = f"{number(one.value, 3)}\n[{number(one.low, 2)}, {number(one.high, 2)}]"
    if cell.comparison.delta is not None:
        one = cell.comparison.delta
        digits = 2 if max(abs(one.low), abs(one.high)) < 0.01 else 1
        low, high = ms(one.low, digits, sign=True), ms(one.high, digits, sign=True)
        delta = f"{ms(one.value, digits, sign=True)}\n[{low}, {high}]"
    stages = ("planned", "delivered", "observed")
    faults = [sum(len(getattr(arm.faults, stage)) for arm in cell.arms) for stage in stages]
    return (
        cell.config.name,
        latency_ms(first.latency, "mean_s") or "-",
        latency_ms(second.latency, "mean_s") or "-",
        ratio,
        delta,
        f"{_rate(first.error_rate)} / {_rate(second.error_rate)}",
        number(second.retries_mean_success, 3) or "-",
        "/".join(map(str, faults)),
        cell.verdict,
        _FAILS[cell.reliability.verdict],
        yes(cell.claim_safe),
    )


def _rate(value: float | None) -> str:
    return "0" if value == 0 else number(value, 4) or "-"

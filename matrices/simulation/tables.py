"""The tables of a simulation, and how docs/simulation.md has them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from matrices.simulation.measure import Measured
from matrices.simulation.noise import DRIFTING

_COLUMNS: tuple[tuple[str, Callable[[Measured], str]], ...] = (
    ("noise", lambda m: m.setting.family),
    ("level, ms", lambda m: f"{m.setting.level_s * 1e3:g}"),
    ("profile", lambda m: "aa" if m.setting.profile is None else m.setting.profile.short),
    ("runs", lambda m: str(m.setting.runs)),
    ("planted, ms", lambda m: f"{m.setting.planted_s * 1e3:g}"),
    ("truth, ms", lambda m: f"{m.truth_s * 1e3:.2f}"),
    ("difference", lambda m: _percent(m.covered)),
    ("ratio", lambda m: _percent(m.ratio_covered)),
    ("covered or refused", lambda m: _percent(m.carried)),
    ("width, ms", lambda m: f"{m.width_s * 1e3:.2f}"),
    ("directions", lambda m: _percent(m.directions)),
    ("wrong", lambda m: _percent(m.wrong)),
    ("claim-safe", lambda m: _percent(m.safe)),
    ("claim-safe and wrong", lambda m: _percent(m.safe_and_wrong)),
    ("out of limits", lambda m: ", ".join(m.faults)),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """Lines of text under a head; `title` is "" for none."""

    title: str
    head: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]


def full_table(rows: Iterable[Measured], *, title: str = "") -> Table:
    """Every row with every figure; times in milliseconds, everything else in percent of the campaigns."""
    return Table(
        title=title,
        head=tuple(name for name, _ in _COLUMNS),
        lines=tuple(tuple(text(row) for _, text in _COLUMNS) for row in rows),
    )


def summary(rows: Sequence[Measured]) -> list[Table]:
    """Tables by family, level and number of runs, each figure from its lowest to its highest over the rest.

    The rows that are out of limits follow, if there are any.
    """
    steady = [row for row in rows if row.setting.family not in DRIFTING]
    drifting = [row for row in rows if row.setting.family in DRIFTING]
    zero = [row for row in rows if row.truth_s == 0]
    ordered = [row for row in rows if row.order_move > 0]
    failed = [row for row in rows if row.faults]
    parts = [
        ("Difference covered, %", steady, lambda m: m.covered),
        ("Ratio covered, %", steady, lambda m: m.ratio_covered),
        ("One arm drifts: difference covered or claim refused, %", drifting, lambda m: m.carried),
        ("A true zero called a difference, %", zero, lambda m: m.directions),
        ("Claim-safe and wrong, %", rows, lambda m: m.safe_and_wrong),
        ("Claim-safe, %", rows, lambda m: m.safe),
        ("An order effect of 3 % moves the estimate, % of its interval", ordered, lambda m: m.order_move),
        (
            "Width of the difference's interval, % of the level of noise",
            steady,
            lambda m: m.width_s / m.setting.level_s,
        ),
    ]
    tables = [_by_runs(title, chosen, figure) for title, chosen, figure in parts if chosen]
    return [*tables, full_table(failed, title="Out of limits")] if failed else tables


def closing(rows: Sequence[Measured]) -> str:
    """How many rows there are, and how many of them are out of limits, in a sentence."""
    failed = sum(bool(row.faults) for row in rows)
    return f"{len(rows)} rows of {rows[0].campaigns} campaigns, {failed} out of limits."


def markdown(tables: Iterable[Table]) -> str:
    """The tables as docs/simulation.md has them."""
    texts = []
    for table in tables:
        lines = [table.head, ("---",) * len(table.head), *table.lines]
        drawn = "\n".join("| " + " | ".join(line) + " |" for line in lines)
        texts.append(f"### {table.title}\n\n{drawn}" if table.title else drawn)
    return "\n\n".join(texts)


def _by_runs(title: str, rows: Sequence[Measured], figure: Callable[[Measured], float]) -> Table:
    runs = sorted({row.setting.runs for row in rows})
    cells: dict[tuple[str, float], dict[int, list[float]]] = {}
    for row in rows:
        of = cells.setdefault((row.setting.family, row.setting.level_s), {})
        of.setdefault(row.setting.runs, []).append(figure(row))
    return Table(
        title=title,
        head=("noise", "level, ms", *(f"{run} runs" for run in runs)),
        lines=tuple(
            (family, f"{level_s * 1e3:g}", *(_span(of.get(run, [])) for run in runs))
            for (family, level_s), of in cells.items()
        ),
    )


def _span(values: Sequence[float]) -> str:
    if not values:
        return ""
    low, high = _percent(min(values)), _percent(max(values))
    return low if low == high else f"{low} to {high}"


def _percent(share: float) -> str:
    return f"{share * 100:.1f}"

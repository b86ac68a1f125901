"""Renders tables for a terminal of a certain width."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table as Grid

from matrices.report.document import Table, Words

LEAST_LEGEND_CHARS = 40


def table_text(table: Table, legend: Sequence[str], *, width: int = 120) -> str:
    """The table as it stands on a terminal of `width` characters, without colour, and a legend.

    Columns that do not fit are left out by their rank, and named; those of rank 0 always stand.
    """
    shown = list(range(len(table.columns)))
    ranks = {place: table.columns[place].rank for place in shown}
    giving_way = sorted((place for place in shown if ranks[place] > 0), key=lambda place: -ranks[place])
    text = _drawn(table, shown)
    for given_up in (None, *giving_way):
        if max(map(len, text.split("\n"))) <= width:
            break
        if given_up is not None:
            shown.remove(given_up)
        text = _drawn(table, shown, narrow=True)
    told = [f"{'; '.join(legend)}."]
    missing = [
        " ".join(column.heading).strip() for place, column in enumerate(table.columns) if place not in shown
    ]
    if missing:
        told.append(f"Left out on a terminal this narrow: {', '.join(missing)}; summary.md has them.")
    return text + "".join(f"{textwrap.fill(line, max(width, LEAST_LEGEND_CHARS))}\n" for line in told)


def _drawn(table: Table, shown: Sequence[int], *, narrow: bool = False) -> str:
    """The columns of the table, as wide as they are; with `narrow` one that wraps takes more lines."""
    grid = Grid(box=box.SIMPLE_HEAD, pad_edge=False, padding=0)
    for place in shown:
        column = table.columns[place]
        grid.add_column(
            "\n".join(column.heading),
            justify="left" if column.left else "right",
            max_width=_narrowest(table, place) if narrow and column.wraps else None,
        )
    for row in table.rows:
        grid.add_row(*(_plain(row[place]) for place in shown))
    buffer = io.StringIO()
    Console(file=buffer, width=10_000, color_system=None, legacy_windows=False).print(grid)
    lines = [line.rstrip() for line in buffer.getvalue().split("\n")]
    return "\n".join(lines).strip("\n") + "\n\n"


def _narrowest(table: Table, place: int) -> int:
    """The width in which no text of the column needs more than two lines of whole words, and none breaks a word."""
    texts = [_plain(row[place]) for row in table.rows]
    words = [word for text in texts for word in text.split()]
    return max(
        [*map(len, words), *(_halved(text) for text in texts), *map(len, table.columns[place].heading)]
    )


def _halved(text: str) -> int:
    words = text.split()
    cuts = range(1, len(words) + 1)
    return min((max(len(" ".join(words[:cut])), len(" ".join(words[cut:]))) for cut in cuts), default=0)


def _plain(words: Words) -> str:
    return words if isinstance(words, str) else words.text

"""How commands print: tables as wide as the terminal, or JSON for scripts, in whatever stdout can write."""

from __future__ import annotations

import io
import json
import shutil
import sys
from collections.abc import Container, Iterable, Sequence
from typing import Any

import click
from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

_PLAIN_WIDTH = 120
"""Characters in a line where stdout is no terminal."""

_LEAST_LAST = 20
"""Characters that the last column has on any terminal."""

format_option = click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="A table to be read, or JSON for a script.",
)
"""The option of every command whose result a script may want, as the argument `form`."""


def width() -> int:
    """How many characters a line of the terminal has; COLUMNS overrules it."""
    return shutil.get_terminal_size((_PLAIN_WIDTH, 24)).columns


def say(text: str) -> None:
    """Prints text that ends its own lines; rules are hyphens where stdout cannot write a line."""
    try:
        "─".encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        text = text.replace("─", "-")
    click.echo(text, nl=False)


def say_json(value: Any) -> None:
    """Prints a value as indented JSON in ASCII, which every stdout can write."""
    click.echo(json.dumps(value, indent=2, allow_nan=False))


def table(headings: Sequence[str], rows: Iterable[Sequence[str]], *, right: Container[int] = ()) -> str:
    """Rows under headings; the last column takes more lines where the terminal is narrow, and nothing is cut.

    The columns numbered in `right` are set to the right.
    """
    lines = [tuple(row) for row in rows]
    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    last = len(headings) - 1
    for number, heading in enumerate(headings):
        drawn.add_column(
            heading, justify="right" if number in right else "left", no_wrap=number != last, overflow="fold"
        )
    for line in lines:
        drawn.add_row(*line)
    widths = [max(map(cell_len, column)) for column in zip(headings, *lines, strict=True)]
    least = sum(widths[:-1]) + 2 * len(widths) + min(widths[-1], _LEAST_LAST)
    buffer = io.StringIO()
    console = Console(
        file=buffer, width=max(width(), least), color_system=None, legacy_windows=False, markup=False
    )
    console.print(drawn)
    printed = [line.rstrip() for line in buffer.getvalue().split("\n")]
    return "\n".join(printed).strip("\n") + "\n"

"""A table as LaTeX: `booktabs` rules, every character of the text as itself, caption and label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_ESCAPES = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "`": r"\textasciigrave{}",
    '"': r"{\char34}",
}
_JOINS = frozenset("-,'")
"""Characters of which two in a row become another one, such as a dash."""

_AFTER_A_ROW = frozenset("[*")
"""Characters that the end of a row before them would take for its own."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PaperTable:
    """A table for a paper: `name` is that of its files; columns in `left` are set to the left."""

    name: str
    caption: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    left: frozenset[int] = frozenset({0})


def escaped(text: str) -> str:
    """The text in a line, as LaTeX sets it literally; control characters, which it cannot set, become blanks."""
    written: list[str] = []
    for before, character in zip(f" {text}", text, strict=False):
        if character in _JOINS and character == before:
            written.append("{}")
        written.append(
            " " if character.isspace() or not character.isprintable() else _ESCAPES.get(character, character)
        )
    return "".join(written)


def latex(table: PaperTable, label: str) -> str:
    """The table as a float of its own; it needs `\\usepackage{booktabs}` and nothing else."""
    columns = "".join("l" if place in table.left else "r" for place in range(len(table.headings)))
    lines = [
        r"\begin{table}",
        r"  \centering",
        rf"  \caption{{{escaped(table.caption)}}}",
        rf"  \label{{tab:{_label(label)}}}",
        rf"  \begin{{tabular}}{{{columns}}}",
        r"    \toprule",
        f"    {_row(table.headings)}",
        r"    \midrule",
        *(f"    {_row(row)}" for row in table.rows),
        r"    \bottomrule",
        r"  \end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _row(cells: Sequence[str]) -> str:
    first, *rest = map(escaped, cells)
    guard = "{}" if first.lstrip()[:1] in _AFTER_A_ROW else ""
    return " & ".join((guard + first, *rest)) + r" \\"


def _label(name: str) -> str:
    return "".join(one if one.isalnum() and one.isascii() else "-" for one in name)

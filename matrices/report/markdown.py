"""Renders a report as Markdown."""

from __future__ import annotations

from matrices.report.chart import Chart
from matrices.report.curves import drawing
from matrices.report.document import Figure, Listing, Paragraph, Part, Section, Table, Verbatim, Words

_MARKS = {"plain": "", "strong": "**", "emphasis": "*", "code": "`"}


def markdown(document: Section) -> str:
    """The document as one text."""
    return "\n\n".join(_section(document, level=1)) + "\n"


def _section(section: Section, *, level: int) -> list[str]:
    texts = [f"{'#' * level} {section.title}", *map(_part, section.parts)]
    for inner in section.sections:
        texts += _section(inner, level=level + 1)
    return texts


def _part(part: Part) -> str:
    match part:
        case Paragraph(words):
            return "".join(map(_words, words))
        case Table():
            return _table(part)
        case Listing(lead=lead, items=items):
            head = f"{lead}\n\n" if lead else ""
            return head + "\n".join(f"* {item}" for item in items)
        case Figure(curve=curve):
            return f"```\n{drawing(curve)}```"
        case Chart(title=title, alt=alt):
            return f"{title}: {alt}"
        case Verbatim(text=text):
            return f"```\n{text.rstrip()}\n```"


def _table(table: Table) -> str:
    headings = [" ".join(column.heading).strip() for column in table.columns]
    lines = [headings, ["---"] * len(headings), *([_cell(one) for one in row] for row in table.rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(words: Words) -> str:
    return _words(words).replace("\n", " ").replace("|", "\\|")


def _words(words: Words) -> str:
    if isinstance(words, str):
        return words
    mark = _MARKS[words.style]
    return f"{mark}{words.text}{mark}"

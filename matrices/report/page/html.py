"""Renders a report as one HTML file that fetches nothing: the same bytes from the same history."""

from __future__ import annotations

import base64
import csv
import io
import re
from collections.abc import Callable, Mapping
from typing import Any

import jinja2
from markupsafe import Markup

from matrices.report import chart as c
from matrices.report.charts.drawing import as_chart
from matrices.report.document import Listing, Paragraph, Part, Section, Table, Verbatim, Words
from matrices.report.page import layout

Draw = Callable[[c.Chart], str]

_ELEMENTS = {"plain": "", "strong": "strong", "emphasis": "em", "code": "code"}
_FIGURE = re.compile(r"[+-]?\d|[\[(-]|$")
"""How the text of a figure begins, or that there is none."""

_TYPES = {".json": "application/json", ".csv": "text/csv"}


def html(document: Section, *, draw: Draw, attached: Mapping[str, str]) -> str:
    """The document as one page, its charts drawn by `draw` (as SVG); `attached` are files to be taken from it."""
    script = layout.sorting()
    page = _Page(draw)
    return page.template("report.html").render(
        title=document.title,
        contents=True,
        sections=[page.section(section, level=2) for section in document.sections],
        intro=[page.part(part, document.title) for part in document.parts],
        style=layout.style() + _chart_style(),
        script=script,
        policy=layout.policy(script),
        attached=[(name, _link(name, text)) for name, text in attached.items()],
    )


class _Page:
    """One page in the making: the ids that are taken, and how charts are drawn."""

    def __init__(self, draw: Draw) -> None:
        self._draw = draw
        self._ids: set[str] = {"main", "contents"}
        self._templates = layout.templates()
        self._templates.filters["words"] = _words

    def template(self, name: str) -> jinja2.Template:
        return self._templates.get_template(f"{name}.jinja")

    def section(self, section: Section, *, level: int) -> dict[str, Any]:
        """What the layout needs of a section and of those within it."""
        return {
            "id": self._id(section.title),
            "title": section.title,
            "level": level,
            "parts": [self.part(part, section.title) for part in section.parts],
            "sections": [self.section(inner, level=level + 1) for inner in section.sections],
        }

    def part(self, part: Part, title: str) -> Markup:
        """The part as markup; everything that came from outside is escaped."""
        chart = as_chart(part)
        if chart is not None:
            return self._rendered(
                "chart",
                id=self._id(f"chart-{chart.name}"),
                chart=chart,
                titled=chart.title != title,
                svg=Markup(self._draw(chart)),
                csv=_link(f"{chart.name}.csv", _csv_of_rows(chart.rows)),
            )
        match part:
            case Paragraph(words):
                return self._rendered("paragraph", words=words)
            case Listing(lead=lead, items=items):
                return self._rendered("listing", lead=lead, items=items)
            case Verbatim(name=name, text=text):
                return self._rendered(
                    "verbatim", id=self._id(name), name=name, text=text, link=_link(name, text)
                )
            case Table():
                return self._table(part, title)
        raise AssertionError("a figure is a chart")

    def _table(self, table: Table, title: str) -> Markup:
        headings = [" ".join(column.heading).strip() for column in table.columns]
        caption = f"{title}, by profile" if headings[0] == "profile" else f"{title}: {headings[0]}"
        made = self._id(caption)
        lines = [headings, *([_text(one) for one in row] for row in table.rows)]
        return self._rendered(
            "table",
            id=made,
            caption=caption,
            columns=[(column.heading, _is_text(table, at)) for at, column in enumerate(table.columns)],
            rows=table.rows,
            csv=_link(f"{made}.csv", _csv(lines)),
        )

    def _rendered(self, template: str, /, **values: Any) -> Markup:
        return Markup(self.template(template).render(**values))

    def _id(self, text: str) -> str:
        slug = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "part"
        made, number = slug, 1
        while made in self._ids:
            number += 1
            made = f"{slug}-{number}"
        self._ids.add(made)
        return made


def _words(words: Words) -> Markup:
    if isinstance(words, str):
        return Markup("{}").format(words)
    element = _ELEMENTS[words.style]
    return (
        Markup("{}").format(words.text)
        if not element
        else Markup(f"<{element}>{{}}</{element}>").format(words.text)
    )


def _is_text(table: Table, place: int) -> bool:
    """Whether the column says words, which begin at the left and may take more lines, and no figures."""
    return table.columns[place].left or not all(_FIGURE.match(_text(row[place])) for row in table.rows)


def _text(words: Words) -> str:
    return (words if isinstance(words, str) else words.text).replace("\n", " ")


def _csv(lines: list[list[str]]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(lines)
    return buffer.getvalue()


def _csv_of_rows(rows: tuple[c.Row, ...]) -> str:
    names = list(dict.fromkeys(name for row in rows for name in row))
    texts = [["" if row.get(name) is None else str(row.get(name)) for name in names] for row in rows]
    return _csv([names, *texts])


def _link(name: str, text: str) -> dict[str, str]:
    kind = _TYPES.get(name[name.rfind(".") :], "text/plain")
    data = base64.b64encode(text.encode()).decode()
    return {"name": name, "href": f"data:{kind};charset=utf-8;base64,{data}"}


def _chart_style() -> Markup:
    """The colours of charts that follow those of the page, which is light or dark."""
    rules = []
    for colour, name in ((c.INK, "ink"), (c.GRID, "rule"), (c.BAND, "band")):
        rules += [f'.chart svg [{what}="{colour}"]{{{what}:var(--{name})}}' for what in ("fill", "stroke")]
    return Markup("\n".join(rules) + "\n")

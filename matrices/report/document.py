"""What a report says, as values that a renderer lays out: sections of paragraphs, tables, listings and figures."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from matrices.report.chart import Chart
from matrices.report.curves import Curve

Style: TypeAlias = Literal["plain", "strong", "emphasis", "code"]


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of text in one style."""

    text: str
    style: Style = "plain"


Words: TypeAlias = str | Span
"""Text, plain unless it is a span that says otherwise."""


def strong(text: str) -> Span:
    """The text as what must not be missed."""
    return Span(text, "strong")


def emphasis(text: str) -> Span:
    """The text with a stress on it."""
    return Span(text, "emphasis")


def code(text: str) -> Span:
    """The text as a name or value that stands so in a file or on a command line."""
    return Span(text, "code")


@dataclass(frozen=True, slots=True)
class Paragraph:
    """Sentences that belong together."""

    words: tuple[Words, ...]

    @property
    def text(self) -> str:
        """The sentences without any style."""
        return "".join(one if isinstance(one, str) else one.text for one in self.words)


def paragraph(*words: Words) -> Paragraph:
    """A paragraph of these words, one after the other, as they are."""
    return Paragraph(words)


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """One column of a table: its heading, in lines, and how it is laid out where the layout is free.

    `left`: its text is set to the left. `wraps`: its text may take more lines. `rank` says when it gives way where
    there is no room: the highest first, and 0 never.
    """

    heading: tuple[str, ...]
    left: bool = False
    wraps: bool = False
    rank: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """A table; a cell may have more than one line."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[Words, ...], ...]


def table(headings: Iterable[str], rows: Iterable[Iterable[Words]]) -> Table:
    """A table with a plain column for each heading."""
    return Table(
        columns=tuple(Column(heading=(heading,)) for heading in headings),
        rows=tuple(tuple(row) for row in rows),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Listing:
    """Items in lines of their own, after the words that lead them in ("" for none)."""

    lead: str
    items: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """A curve to be drawn."""

    curve: Curve


@dataclass(frozen=True, kw_only=True, slots=True)
class Verbatim:
    """A text that stands as it is: a file, under the name that it has."""

    name: str
    text: str


Part: TypeAlias = Paragraph | Table | Listing | Figure | Chart | Verbatim


@dataclass(frozen=True, kw_only=True, slots=True)
class Section:
    """A titled stretch of a report: its parts in order, and after them the sections within it."""

    title: str
    parts: tuple[Part, ...]
    sections: tuple[Section, ...] = ()

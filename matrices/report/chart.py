"""A chart as a value: what it shows in numbers and in words, and how it is drawn, as a Vega-Lite specification."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"
"""The language in which charts are specified; nothing is fetched from there."""

WIDTH = 620
"""How wide the plotting area of a chart is, in pixels."""

INK, QUIET, GRID, BAND = "#222222", "#767676", "#dddddd", "#e4e4e4"
"""What is no series: text, thin marks, the grid, areas behind the data. A dark page gives them colours of its own."""

BASELINE, COMPARED, BAD, GOOD = "#3b7dd8", "#c96a0a", "#d03b3b", "#2f8f5b"
"""The colours of the two arms, of what failed, and of what is sure: of 3:1 against a light page and a dark one."""

FONT = "Liberation Sans, Arial, Helvetica, sans-serif"
"""The font of all text: the first comes with the renderer, so that no layout depends on what a machine has."""

Value: TypeAlias = str | float | int | bool | None
Row: TypeAlias = Mapping[str, Value]

_DIGITS = 6
"""How many significant digits a chart has of a figure: the last ones depend on the processor."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Chart:
    """A chart. `name` is that of its files; `alt` says what it shows to who cannot see it; `rows` are its numbers."""

    name: str
    title: str
    caption: str
    alt: str
    rows: tuple[Row, ...]
    spec: Mapping[str, Any]


def settled(value: float | None) -> float | None:
    """The value to `_DIGITS` digits; None for what cannot be drawn."""
    if value is None or not math.isfinite(value):
        return None
    return float(f"{value:.{_DIGITS}g}") + 0.0


def in_ms(value_s: float | None) -> float | None:
    """Seconds in milliseconds, settled."""
    return None if value_s is None else settled(value_s * 1e3)


def values(rows: Sequence[Row]) -> dict[str, Any]:
    """The rows as the data of a view."""
    return {"values": [dict(row) for row in rows]}


def whole(view: Mapping[str, Any]) -> dict[str, Any]:
    """A view as a specification of its own, in the style of all charts."""
    return {"$schema": SCHEMA, **view, "config": _CONFIG}


ROOM = 0.88
"""The share of their layout's size in which texts are drawn: a reader's font may be wider than the renderer's."""

_SYMBOLS = {"symbolLimit": 0, "symbolBaseFillColor": QUIET, "symbolBaseStrokeColor": QUIET}
_TEXT = {"labelColor": INK, "titleColor": INK, "labelFontSize": 14, "titleFontSize": 14}

_CONFIG = {
    "aria": False,
    "font": FONT,
    "view": {"stroke": None},
    "axis": {
        **_TEXT,
        "titleFontWeight": "normal",
        "gridColor": GRID,
        "domainColor": QUIET,
        "tickColor": QUIET,
        "labelLimit": 260,
    },
    "legend": {**_TEXT, "titleFontWeight": "normal", "orient": "top", "labelLimit": 260, **_SYMBOLS},
    "header": {**_TEXT, "titleFontWeight": "normal", "labelLimit": 260},
    "title": {"color": INK, "fontSize": 13, "anchor": "start"},
    "text": {"color": INK, "fontSize": 13},
}

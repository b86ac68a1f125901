"""The one place that renders charts: Vega-Lite to SVG and PNG, by vl-convert, without a browser or a network."""

from __future__ import annotations

import importlib
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from matrices.report.chart import ROOM, SCHEMA, Chart
from matrices.report.charts.curves import curve_chart
from matrices.report.document import Figure, Part, Section
from treni.errors import Code, TreniError

_SVG = "http://www.w3.org/2000/svg"
ElementTree.register_namespace("", _SVG)

_GEOMETRY = frozenset({"d", "transform", "x", "y", "x1", "y1", "x2", "y2", "width", "height"})
_LONG = re.compile(r"-?\d+\.\d{3,}(?:e-?\d+)?")
"""A number of a shape that says more than a hundredth of a pixel."""

_VERSION = re.search(r"/v(\d+)", SCHEMA)
_SCALE = 2.0
"""Pixels of a PNG for each of the chart: sharp in print."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Drawn:
    """A chart of a report as a file for a paper, on white: its name without a suffix, its caption, and its SVG."""

    name: str
    caption: str
    svg: bytes

    @property
    def png(self) -> bytes:
        """The same as PNG, as sharp as print needs."""
        drawn: bytes = _renderer().svg_to_png(self.svg.decode(), scale=_SCALE)
        return drawn


def refuse_undrawable() -> None:
    """Raises FAILED_PRECONDITION (`report_extra_missing`) where nothing can be drawn, before anything is written."""
    _renderer()


def svg(chart: Chart, *, background: str | None = None) -> str:
    """The chart as SVG, the same bytes each time; transparent without a `background`."""
    made: str = _renderer().vegalite_to_svg({**chart.spec, "background": background}, vl_version=_language())
    root = ElementTree.fromstring(made)
    for element in root.iter():
        _settle(element, chart.name)
    root.set("role", "img")
    root.set("aria-label", chart.alt)
    return ElementTree.tostring(root, encoding="unicode")


def _settle(element: ElementTree.Element, name: str) -> None:
    """Makes of the renderer's element one that may stand in a page with other charts, and takes no more room than due.

    The chart says as a whole what it shows, so its parts have no roles of their own.
    """
    for key, value in list(element.items()):
        if key == "role" or key.startswith("aria-"):
            del element.attrib[key]
        elif key == "id":
            element.set(key, f"{name}-{value}")
        elif "url(#" in value:
            element.set(key, value.replace("url(#", f"url(#{name}-"))
        elif key == "font-size":
            element.set(key, f"{float(value.removesuffix('px')) * ROOM:.4g}px")
        elif key in _GEOMETRY:
            element.set(key, _LONG.sub(lambda found: f"{float(found[0]):.2f}".rstrip("0").rstrip("."), value))


def charts_of(section: Section) -> Iterator[Chart]:
    """Every chart of a report, in its order."""
    for part in section.parts:
        if (chart := as_chart(part)) is not None:
            yield chart
    for inner in section.sections:
        yield from charts_of(inner)


def as_chart(part: Part) -> Chart | None:
    """The chart that the part is or stands for; None where it is none."""
    match part:
        case Chart():
            return part
        case Figure(curve=curve):
            return curve_chart(curve)
        case _:
            return None


def all_drawn(section: Section) -> Iterator[Drawn]:
    """Every chart of a report (`sections.page`) as files for a paper. Raises as `refuse_undrawable` does."""
    for chart in charts_of(section):
        drawn = svg(chart, background="white").encode()
        yield Drawn(name=chart.name, caption=chart.caption, svg=drawn)


def _language() -> str:
    """The newest Vega-Lite of the renderer in the version that specifications are written for."""
    assert _VERSION is not None
    known: list[str] = [
        one for one in _renderer().get_vegalite_versions() if one.startswith(_VERSION[1] + ".")
    ]
    return max(known, key=lambda one: [int(part) for part in one.split(".")])


def _renderer() -> Any:
    try:
        return importlib.import_module("vl_convert")
    except ImportError:
        raise TreniError(
            Code.FAILED_PRECONDITION,
            "report_extra_missing",
            expected="vl-convert-python, which draws the charts of an HTML report",
            got="no such package",
            todo="pip install 'treni-route[report]'",
            definite=True,
        ) from None

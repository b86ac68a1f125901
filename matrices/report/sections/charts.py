"""The charts of a report, each where it is to stand."""

from __future__ import annotations

from collections.abc import Iterator

from matrices.report.charts.differences import differences_chart
from matrices.report.charts.hops import overview_chart, pair_chart, waterfall_chart
from matrices.report.charts.load import load_chart
from matrices.report.charts.ratio import ratio_chart
from matrices.report.charts.timeline import timeline_chart
from matrices.report.charts.trouble import trouble_chart
from matrices.report.document import Part
from matrices.report.figures import CellFigures, Figures


def differences(figures: Figures) -> Iterator[Part]:
    """The distributions of paired differences."""
    yield from filter(None, [differences_chart(figures)])


def ratio(figures: Figures) -> Iterator[Part]:
    """The ratio of every profile."""
    yield from filter(None, [ratio_chart(figures)])


def time(figures: Figures) -> Iterator[Part]:
    """The means by part of every profile."""
    yield from filter(None, [overview_chart(figures)])


def trouble(figures: Figures) -> Iterator[Part]:
    """The errors, retries and duplicates of every profile."""
    yield from filter(None, [trouble_chart(figures)])


def load(figures: Figures) -> Iterator[Part]:
    """The conditions of every block."""
    yield from filter(None, [load_chart(figures)])


def of_cell(figures: Figures, cell: CellFigures) -> Iterator[Part]:
    """The charts of one cell: how it went, where its time went, and one of its pairs."""
    yield from filter(None, [timeline_chart(cell), waterfall_chart(cell), pair_chart(cell)])

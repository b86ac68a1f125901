"""What each swept setting does."""

from __future__ import annotations

from collections.abc import Iterator

from matrices.report.document import Figure, Part
from matrices.report.figures import Figures


def parts(figures: Figures) -> Iterator[Part]:
    """A figure for each curve."""
    for curve in figures.curves:
        yield Figure(curve=curve)

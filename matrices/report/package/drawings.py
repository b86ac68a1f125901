"""The figures of a campaign for a paper: the one seam between the package and what draws."""

from __future__ import annotations

from matrices.report.figures import Figures
from matrices.report.package.build import Drawing


def drawings_of(figures: Figures) -> tuple[Drawing, ...]:
    """Every figure of the campaign; none where nothing here draws."""
    return ()

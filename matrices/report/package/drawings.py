"""The figures of a campaign for a paper: the charts of its report, as files."""

from __future__ import annotations

from matrices.report.figures import Figures
from matrices.report.package.build import Drawing
from matrices.report.page.files import figures_of


def drawings_of(figures: Figures) -> tuple[Drawing, ...]:
    """Every chart as SVG and PNG. Raises FAILED_PRECONDITION (`report_extra_missing`) where nothing can be drawn."""
    return tuple(
        Drawing(name=one.name, caption=one.caption, files={"svg": one.svg, "png": one.png})
        for one in figures_of(figures)
    )

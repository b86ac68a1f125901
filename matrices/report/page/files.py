"""The files that a report with charts is kept in: the page, and every chart by itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from matrices.report.charts.drawing import Drawn, all_drawn, svg
from matrices.report.figures import Figures
from matrices.report.files import render
from matrices.report.page.html import html
from matrices.report.sections import page
from treni.storage import write_whole, writing

PAGE = "report.html"
FIGURES = "figures"


def page_of(figures: Figures) -> str:
    """The page of a campaign. Raises FAILED_PRECONDITION (`report_extra_missing`) where nothing can be drawn."""
    return html(page(figures), draw=svg, attached=render(figures))


def figures_of(figures: Figures) -> Iterator[Drawn]:
    """Every chart of a campaign as files for a paper. Raises as `page_of` does."""
    return all_drawn(page(figures))


def write_page(folder: Path, figures: Figures) -> Path:
    """Writes the page into the folder as a whole, and returns its path."""
    path = folder / PAGE
    write_whole(path, page_of(figures).encode())
    return path


def write_figures(folder: Path, figures: Figures) -> Path:
    """Writes every chart as SVG and PNG, in a folder of their own within the folder, and returns that."""
    place = folder / FIGURES
    with writing(place):
        place.mkdir(exist_ok=True)
    for one in figures_of(figures):
        write_whole(place / f"{one.name}.svg", one.svg)
        write_whole(place / f"{one.name}.png", one.png)
    return place

"""A report as values, and how renderers lay them out."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from matrices.report.curves import ArmPoint, Curve, Point
from matrices.report.document import (
    Column,
    Figure,
    Listing,
    Paragraph,
    Part,
    Section,
    Table,
    Words,
    code,
    emphasis,
    paragraph,
    strong,
    table,
)
from matrices.report.markdown import markdown
from matrices.report.sections import voids
from matrices.report.terminal import table_text
from tests.matrices.report.test_report import _figures

POINT = ArmPoint(arm="near", error_rate=0.5, retries_mean_success=None, latency_mean_s=0.1)


def _only(*parts: Part) -> str:
    """The parts alone, as Markdown."""
    text = markdown(Section(title="t", parts=parts))
    assert text.startswith("# t\n\n")
    return text.removeprefix("# t\n\n").removesuffix("\n")


def test_markdown_marks_what_is_marked_and_nothing_else() -> None:
    words = paragraph("a ", strong("b"), " ", emphasis("c"), " ", code("d"), ".")
    assert _only(words) == "a **b** *c* `d`."
    assert words.text == "a b c d."


def test_a_cell_of_a_markdown_table_stays_in_its_row() -> None:
    rows: list[list[Words]] = [["x|y", strong("no")], ["two\nlines", "z"]]
    assert _only(table(["a", ""], rows)).split("\n")[2:] == ["| x\\|y | **no** |", "| two lines | z |"]


def test_a_listing_and_a_figure_and_what_lies_within() -> None:
    assert _only(Listing(lead="These:", items=("a", "b"))) == "These:\n\n* a\n* b"
    assert _only(Listing(lead="", items=("a",))) == "* a"
    points = (Point(value="1", arms=(POINT,)), Point(value="2", arms=(POINT,)))
    drawn = _only(Figure(curve=Curve(profile="p", key="k", held=(), points=points)))
    assert drawn.startswith("```\np: k\n")
    assert drawn.endswith("```")
    inner = Section(title="b", parts=(paragraph("c"),))
    assert markdown(Section(title="a", parts=(), sections=(inner,))) == "# a\n\n## b\n\nc\n"


words = st.text(st.characters(codec="ascii", categories=("L", "N")), min_size=1, max_size=12)
texts = st.lists(words, min_size=1, max_size=4).map(" ".join)


@given(
    st.lists(st.tuples(texts, st.integers(0, 4), st.booleans()), min_size=1, max_size=6), st.integers(1, 90)
)
def test_a_table_fits_its_terminal_or_keeps_what_never_gives_way(
    columns: list[tuple[str, int, bool]], width: int
) -> None:
    made = Table(
        columns=tuple(
            Column(heading=(f"{number}", "x"), rank=rank, wraps=wraps)
            for number, (_, rank, wraps) in enumerate(columns)
        ),
        rows=(tuple(text for text, _, _ in columns),),
    )
    grid, _, told = table_text(made, ["legend"], width=width).partition("\n\n")
    shown = grid.split("\n")[0].split()
    ranks = {str(number): rank for number, (_, rank, _) in enumerate(columns)}
    assert [number for number, rank in ranks.items() if rank == 0] == [
        one for one in shown if ranks[one] == 0
    ]
    lost = set(ranks) - set(shown)
    if lost:
        # Whoever gave way had the highest ranks, and is named.
        assert min(ranks[one] for one in lost) >= max((ranks[one] for one in shown), default=0)
        assert all(f"{one} x" in " ".join(told.split()) for one in lost)
    fits = max(map(len, grid.split("\n"))) <= width
    assert fits or all(ranks[one] == 0 for one in shown)


@pytest.mark.parametrize(
    ("void", "abandoned", "said"),
    [
        ({}, 0, ["No void pair among 48."]),
        ({}, 2, ["No void pair among 48. Cut off by an interruption and run again: 2 pairs."]),
        ({3: "why"}, 0, []),
        ({3: "why"}, 2, ["Cut off by an interruption and run again: 2 pairs."]),
    ],
)
def test_voids_and_interruptions_are_told_apart(
    void: dict[int, str], abandoned: int, said: list[str]
) -> None:
    figures = _figures()
    cell = replace(figures.cells[1], void=void, abandoned=abandoned)
    made = list(voids.parts(figures, cell))
    listed = [part.items for part in made if isinstance(part, Listing)]
    assert all(isinstance(part, Listing | Paragraph) for part in made)
    assert [part.text for part in made if isinstance(part, Paragraph)] == said
    assert listed == [(f"pair {pair}: {why}",) for pair, why in void.items()]

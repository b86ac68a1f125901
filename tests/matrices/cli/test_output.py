import pytest

from matrices.cli import output

HEADINGS = ("name", "n", "what it says")
ROWS = [("one", "1", "word " * 40), ("a longer name", "12345", "[not markup] \u2028"), ("x" * 60, "", "")]


@pytest.mark.parametrize("columns", [1, 20, 80, 120, 400])
def test_a_table_loses_nothing_however_narrow_the_terminal(
    monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    text = output.table(HEADINGS, ROWS, right=(1,))
    assert "\u2026" not in text
    for row in ROWS:
        for cell in row[:2]:
            assert cell in text
    assert text.count("word") == 40
    assert "[not markup]" in text
    if columns >= 100:
        assert max(map(len, text.split("\n"))) <= columns

"""The limit on a module's length."""

from __future__ import annotations

from pathlib import Path

from tests.lint.lengths import MOST_LINES, too_long


def test_a_module_of_one_line_too_many_is_told(tmp_path: Path) -> None:
    fits, long = tmp_path / "fits.py", tmp_path / "long.py"
    fits.write_text("pass\n" * MOST_LINES, encoding="utf-8")
    long.write_text("pass\n" * (MOST_LINES + 1), encoding="utf-8")
    (fault,) = too_long([fits, long])
    assert str(long) in fault
    assert "got 401" in fault

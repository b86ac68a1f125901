from __future__ import annotations

from importlib import resources


def test_the_data_travel_with_the_package() -> None:
    data = resources.files("tools_svc") / "data"
    assert (data / "cities.csv").is_file()
    assert (data / "accounts.txt").is_file()
    notes = [note for note in (data / "notes").iterdir() if note.name.endswith(".txt")]
    assert len(notes) >= 24
    for note in notes:
        lines = note.read_text(encoding="utf-8").splitlines()
        assert len(lines) == 1
        assert 10 < len(lines[0]) < 160

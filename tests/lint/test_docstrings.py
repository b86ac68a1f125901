"""The lint of docstrings: what a whole clause is, and that the project's own are."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lint import docstrings


@pytest.mark.parametrize(
    ("name", "text", "lacks"),
    [
        ("retries", "How often a call is tried again after its first attempt.", ""),
        ("is_open", "Whether the channel takes calls.", ""),
        ("address", 'The place "host:port" at which it is served.', ""),
        ("render", "Writes the table.\n\nit goes on, as it likes", ""),
        ("main", "`treni-route serve` starts a role.", ""),
        ("retries", "How often a call is tried again", "a full stop"),
        ("retries", "how often a call is tried again.", "a capital"),
        ("close", "Closes it.", "too few words"),
        ("name", "Its name in every record.", "a subject"),
        ("timeout_s", "For a child that hangs.", "a subject"),
        ("lane", "See the protocol above.", "a subject"),
        ("read_record", "Reads the records.", "anything that the name does not say"),
        ("effect_count", "The count of effects.", "anything that the name does not say"),
    ],
)
def test_a_docstring_is_a_whole_clause(name: str, text: str, lacks: str) -> None:
    said = docstrings.lacking(name, text)
    assert (lacks in said) if lacks else said == ""


def test_members_of_every_kind_are_read(tmp_path: Path) -> None:
    source = tmp_path / "module.py"
    source.write_text(
        '''"""it."""
LIMIT = 3
"""it."""
class Thing:
    """it."""
    size: int
    """it."""
    def grow(self):
        """it."""
    def _hidden(self):
        """it."""
async def make():
    """it."""
class _Hidden:
    """it."""
''',
        encoding="utf-8",
    )
    names = [fault.name for fault in docstrings.faults(source)]
    assert names == ["module", "LIMIT", "Thing", "Thing.size", "Thing.grow", "make"]


def test_the_projects_own_docstrings_are_whole_clauses() -> None:
    found = [str(fault) for path in docstrings.sources() for fault in docstrings.faults(path)]
    assert found == []

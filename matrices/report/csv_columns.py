"""A column of a CSV file, and the schema that says what columns are called."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

Row = TypeVar("Row")

SCHEMA = 3
"""What the columns are called and mean. Schema 1 named them after the internal and the external arm, and did not say
so: its files have no column `schema`. Until schema 3 every arm told its tokens, and every gate said something."""


@dataclass(frozen=True, slots=True)
class Column(Generic[Row]):
    """One column of a CSV file: its name, what it says, and its text for a row ("" where there is none).

    `since` is the first schema that has it, `was` the name in schema 1 where that was another.
    """

    name: str
    doc: str
    text: Callable[[Row], str]
    since: int = 1
    was: str = ""

    def name_in(self, schema: int) -> str:
        """The name in files of that schema."""
        return self.was if schema < 2 and self.was else self.name

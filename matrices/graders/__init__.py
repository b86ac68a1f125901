"""How answers are judged: a grader a file, chosen by the task, and those that installed packages add."""

from __future__ import annotations

from matrices.graders import choice, exact, json_value, numeric
from matrices.graders.grader import GraderEntry
from treni.plugins import Plugins

OURS = (exact.ENTRY, numeric.ENTRY, choice.ENTRY, json_value.ENTRY)
"""The graders that come with the project."""

GRADERS: Plugins[GraderEntry] = Plugins(
    "treni_route.graders",
    GraderEntry,
    lambda entry: entry.name,
    OURS,
)
"""Every grader by the name that a suite gives it. A package adds one by an entry point in `treni_route.graders`."""

"""How answers are judged: a grader a file, chosen by the task, and those that installed packages add."""

from __future__ import annotations

from matrices.graders.choice import Choice
from matrices.graders.exact import Exact
from matrices.graders.grader import Grader
from matrices.graders.json_value import JsonValue
from matrices.graders.numeric import Numeric
from treni.plugins import Registry

GROUP = "treni_route.graders"
"""The entry points of packages that add a grader: named as in a suite, loading a class derived from `Grader`."""

GRADERS: Registry[type[Grader]] = Registry(
    {"exact": Exact, "numeric": Numeric, "choice": Choice, "json": JsonValue},
    group=GROUP,
    what="a class derived from matrices.graders.grader.Grader",
    accepts=lambda name, found: isinstance(found, type) and issubclass(found, Grader),
)
"""Every grader by the name that a suite gives it."""

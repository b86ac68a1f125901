"""What an agent does with a task: a scenario a file, chosen by the task, and those that installed packages add."""

from __future__ import annotations

from controller.scenarios.scenario import Scenario
from controller.scenarios.single_turn import SingleTurn
from controller.scenarios.tool_loop import ToolLoop
from treni.plugins import Registry

GROUP = "treni_route.scenarios"
"""The entry points of packages that add a scenario: named as in a suite, loading an object that is a `Scenario`."""

DEFAULT = "tool_loop"
"""The scenario of a task that names none."""

SCENARIOS: Registry[Scenario] = Registry(
    {DEFAULT: ToolLoop(), "single_turn": SingleTurn()},
    group=GROUP,
    what="an object that is a controller.scenarios.scenario.Scenario",
    accepts=lambda name, found: isinstance(found, Scenario) and not isinstance(found, type),
)
"""Every scenario by the name that a suite and a request give it."""

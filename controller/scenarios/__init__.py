"""What an agent does with a task: a scenario a file, chosen by the task, and those that installed packages add."""

from __future__ import annotations

from controller.scenarios.scenario import Scenario
from controller.scenarios.single_turn import SINGLE_TURN
from controller.scenarios.tool_loop import TOOL_LOOP
from treni.plugins import Plugins

SCENARIOS: Plugins[Scenario] = Plugins(
    "treni_route.scenarios",
    Scenario,  # type: ignore[type-abstract]  # what isinstance is asked of
    lambda scenario: scenario.name,
    (TOOL_LOOP, SINGLE_TURN),
)
"""Every scenario by the name that suites and requests give it. A package adds one by an entry point of this group."""

DEFAULT = TOOL_LOOP.name
"""The scenario of a task that names none."""

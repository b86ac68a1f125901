"""External routing: a controller that calls the model over one hop and the tools over another."""

from __future__ import annotations

from matrices.arms.arm import Arm

EXTERNAL = Arm(
    name="external",
    routing="external routing",
    short="ext",
    agent="controller",
    model="runtime",
    tools="tools",
    faultable=("model", "tool"),
)
"""The arm whose every call leaves the controller, and can be faulted on its way."""

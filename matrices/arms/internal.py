"""Internal routing: the loop, the engine and the tools in one process."""

from __future__ import annotations

from matrices.arms.arm import Arm

INTERNAL = Arm(
    name="internal",
    routing="internal routing",
    short="int",
    agent="runtime",
    model="runtime",
    tools="runtime",
)
"""The arm that has no hops."""

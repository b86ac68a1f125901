"""An arm: the loop beside its model, its tools in a process of their own."""

from __future__ import annotations

from matrices.arms.arm import Arm

BESIDE = Arm(
    name="beside",
    routing="routing beside the model",
    short="bes",
    agent="runtime_beside",
    model="runtime_beside",
    tools="tools_beside",
    faultable=("tool",),
)

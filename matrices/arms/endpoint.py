"""Routing over an endpoint: our loop and our tools in a process of the client's side, the model somebody else's."""

from __future__ import annotations

from matrices.arms.arm import Arm

ENDPOINT = Arm(
    name="endpoint",
    routing="routing over the endpoint",
    short="end",
    agent="endpoint",
    model="provider",
    tools="endpoint",
    faultable=("model",),
    engine_timings=False,
    alike=False,
    model_outside=True,
    tokens=False,
)
"""The arm whose model answers at `--model-endpoint`; its hop to the model is the only one."""

"""The user's own agent, whatever it is made of: a black box behind one call."""

from __future__ import annotations

from matrices.arms.arm import Arm

OWN_AGENT = Arm(
    name="agent",
    routing="the agent",
    short="agt",
    agent="adapter",
    model="adapter",
    tools="adapter",
    engine_timings=False,
    alike=False,
    tokens=False,
    seen=False,
)
"""The arm that answers at `--agent-url`, or as `--agent-command`."""

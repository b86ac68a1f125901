"""What each process of a cell hosts, read off the arms: who answers there, and whose model and tools are there."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from matrices.arms.arm import Arm


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """One process of a cell.

    `agent` is the arm that answers there, None for none; `modelled` are the arms whose model is there, `tooled` the
    arm whose tools are there, None for none.
    """

    role: str
    agent: Arm | None
    modelled: tuple[Arm, ...]
    tooled: Arm | None

    @property
    def callers(self) -> tuple[Arm, ...]:
        """The arms that reach the model here over a hop."""
        return tuple(arm for arm in self.modelled if "model" in arm.hops)

    @property
    def arm(self) -> Arm:
        """The arm that the process works for: that of its agent or tools, else the first whose model is there."""
        return self.agent or self.tooled or self.modelled[0]


def parts(arms: Iterable[Arm]) -> dict[str, Part]:
    """The processes that the arms are made of, by role: those that call no other first."""
    every = tuple(dict.fromkeys(arms))
    found = [
        Part(
            role=role,
            agent=next((arm for arm in every if arm.agent == role), None),
            modelled=tuple(arm for arm in every if arm.model == role),
            tooled=next((arm for arm in every if arm.tools == role), None),
        )
        for role in dict.fromkeys(role for arm in every for role in (arm.model, arm.tools, arm.agent))
    ]
    return {part.role: part for part in sorted(found, key=lambda part: bool(part.agent and part.agent.hops))}

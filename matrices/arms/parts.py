"""What each process of a cell hosts, read off the arms: who answers there, and whose model and tools are there."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from matrices.arms.arm import Arm
from matrices.spec import strict
from treni.errors import invalid_argument


@dataclass(frozen=True, kw_only=True, slots=True)
class Replicas:
    """How many processes each of an arm's controllers and tool services is: requests are spread over them."""

    __pydantic_config__ = strict.STRICT

    controllers: int = 1
    tool_services: int = 1

    @property
    def several(self) -> bool:
        """Whether anything is there more than once."""
        return self.controllers > 1 or self.tool_services > 1


ONE_OF_EACH = Replicas()


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """One process of a cell.

    `agent` is the arm that answers there, None for none; `modelled` are the arms whose model is there, `tooled` the
    arm whose tools are there, None for none. `original` is the role that several such processes share, the role itself
    for the first of them.
    """

    role: str
    agent: Arm | None
    modelled: tuple[Arm, ...]
    tooled: Arm | None
    original: str

    @property
    def callers(self) -> tuple[Arm, ...]:
        """The arms that reach the model here over a hop."""
        return tuple(arm for arm in self.modelled if "model" in arm.hops)

    @property
    def arm(self) -> Arm:
        """The arm that the process works for: that of its agent or tools, else the first whose model is there."""
        return self.agent or self.tooled or self.modelled[0]


def kind_of(part: Part) -> str:
    """What the process of a part is started as: by what is in it."""
    if part.agent is not None and not part.agent.seen:
        return "adapter"
    if part.modelled:
        return "runtime" if part.agent is None else "agent"
    return "tools" if part.agent is None else "controller"


def parts(arms: Iterable[Arm], replicas: Replicas = ONE_OF_EACH) -> dict[str, Part]:
    """The processes that the arms are made of, by role: those that call no other first.

    Of several alike the first has the role's own name, and the others follow it. Raises INVALID_ARGUMENT
    (`arms_entangled`) where the name of one is an arm's.
    """
    every = tuple(dict.fromkeys(arms))
    found = [
        Part(
            role=role,
            agent=next((arm for arm in every if arm.agent == role), None),
            modelled=tuple(arm for arm in every if arm.has_engine and arm.model == role),
            tooled=next((arm for arm in every if arm.tools == role), None),
            original=role,
        )
        for role in dict.fromkeys(
            role for arm in every for role in (arm.model, arm.tools, arm.agent) if role in arm.roles
        )
    ]
    found.sort(key=lambda part: bool(part.agent and part.agent.hops))
    counts = {"controller": replicas.controllers, "tools": replicas.tool_services}
    every_part = [
        replace(part, role=_numbered(part.role, number))
        for part in found
        for number in range(counts.get(kind_of(part), 1))
    ]
    by_role = {part.role: part for part in every_part}
    if len(by_role) < len(every_part):
        names = [part.role for part in every_part]
        raise invalid_argument(
            "arms_entangled",
            expected="a name of its own for each process, those that are there several times too",
            got=", ".join(sorted({name for name in names if names.count(name) > 1})),
            todo="name other roles in one of the arms",
        )
    return by_role


def replicas_of(role: str, parts: dict[str, Part]) -> tuple[str, ...]:
    """The roles of all processes that share a role, in the order in which requests choose among them."""
    return tuple(part.role for part in parts.values() if part.original == role)


def _numbered(role: str, number: int) -> str:
    return role if number == 0 else f"{role}_{number + 1}"

"""What a kind of fault says of itself: its keys, where it can stand, who delivers it, and how an attempt ends under it.

Everything else asks these values: the plan and the checker how the attempt ends (`ending`), lanes and injectors what to
do (`on_hop`, `at_tool`), the profile which keys there are (the fields). Nobody asks which kind it is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Collection
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol, TypeAlias

from pydantic import BaseModel, ConfigDict

from treni.errors import Code, TreniError, invalid_argument

Site: TypeAlias = Literal["hop", "tool", "host"]
Hop: TypeAlias = Literal["tool", "model", "agent"]
"""The calls that a fault can strike: a tool's or the model's by the loop, and the client's of the agent itself."""
Outcome: TypeAlias = Literal["ok", "fail", "unknown"]

MAX_COUNT = 10**9
"""The largest whole number that a fault may carry: whatever reads it on the way has room for that."""

MAX_DURATION_S = 3600
"""The longest time that a profile may give."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Key:
    """How a profile writes a field: under another `name`, and as a duration where `per_second` is given.

    `per_second` is how many of the field's units a second has: 1,000 for a field in milliseconds, which a profile then
    writes as "250ms" (no "0.5ms": it counts whole ones). Put it in the field's `Annotated`.
    """

    name: str
    per_second: Literal[1, 1000, 1_000_000] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Toxic:
    """A toxic at toxicity 1. `stream` "upstream" acts on requests, "downstream" on answers.

    `role` tells it apart from another of its type on the same proxy.
    """

    type: str
    stream: Literal["upstream", "downstream"]
    attributes: dict[str, int]
    role: str = ""

    @property
    def name(self) -> str:
        """The name of the toxic within its proxy."""
        return f"{self.role or self.type}_{self.stream}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Lane:
    """A hop's fault that a proxy delivers: the attempt goes through a connection of its own with these toxics on it.

    The connection is one that was warmed before the toxics went in, or with `fresh` a new one for each attempt.
    """

    toxics: tuple[Toxic, ...]
    fresh: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Refusal:
    """A hop's fault that the server behind the hop delivers: a status before its handler runs."""

    code: Code


@dataclass(frozen=True, kw_only=True, slots=True)
class Struck:
    """An attempt that a fault strikes, as far as its ending depends on it.

    `timeout_s` is the attempt's own limit. `in_process` says that the tool runs in the caller's process, where no hop
    lies between. The answer has `answer_bytes` bytes at least; 0 where nobody knows.
    """

    timeout_s: float
    in_process: bool = False
    answer_bytes: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Ending:
    """The ending of an attempt under a fault, one value that plan, trace and checker all read.

    `outcome` "ok" leaves the ending to the tool, "fail" is an error of an attempt that definitely did not happen,
    "unknown" of one that may have. `code` names the status and `kinds` the error kinds of which the caller sees one,
    {""} where there is no error. `tool_runs` says whether the attempt gets as far as the tool, whose effect stands
    then. The attempt lasts from `least_s` to `most_s` seconds, the machine's own time aside. Where the `caller_dies`
    nobody is left to record it.
    """

    outcome: Outcome
    code: str
    kinds: frozenset[str]
    tool_runs: bool
    least_s: float
    most_s: float
    caller_dies: bool = False

    @property
    def is_error(self) -> bool:
        """Whether the caller sees an error because of the fault."""
        return self.outcome != "ok"

    @property
    def is_exact(self) -> bool:
        """Whether its time is known before the run."""
        return self.least_s == self.most_s


def answered(*, least_s: float, struck: Struck) -> Ending:
    """The ending of an attempt that goes on to its tool and back, and lasts `least_s` at least, its timeout at most."""
    return Ending(
        outcome="ok",
        code=Code.OK.name,
        kinds=frozenset({""}),
        tool_runs=True,
        least_s=min(least_s, struck.timeout_s),
        most_s=struck.timeout_s,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class CallUnderFault:
    """One call of a tool that a fault strikes.

    `run` runs the tool and answers or raises as it does. `error` makes the error of the fault with a status and, where
    nothing happened for certain, as definite. A call that is held is let go after `max_stall_s` at the latest, also
    where its caller has no deadline.
    """

    run: Callable[[], Awaitable[Any]]
    error: Callable[[Code, bool], TreniError]
    max_stall_s: float


class StruckHost(Protocol):
    """The host behind a hop as a fault finds it: what can be done to it, each undone when its block is left."""

    @property
    def role(self) -> str:
        """The service behind the hop."""
        ...

    @property
    def roles(self) -> tuple[str, ...]:
        """Every service of the cell on this host."""
        ...

    def paused(self, roles: Collection[str]) -> AbstractAsyncContextManager[None]:
        """The services stopped where they are (SIGSTOP), and let go on."""
        ...

    def killed(self, roles: Collection[str]) -> AbstractAsyncContextManager[None]:
        """The services killed, and started again as they were."""
        ...

    def dropped(
        self, roles: Collection[str], *, requests: float, answers: float
    ) -> AbstractAsyncContextManager[None]:
        """Loses these shares of the packets to the services, and from them, on the link."""
        ...

    def delayed(
        self, roles: Collection[str], *, delay_s: float, jitter_s: float
    ) -> AbstractAsyncContextManager[None]:
        """The packets from the services held on the link for `delay_s`, give or take `jitter_s`, in their order."""
        ...


class FaultKind(BaseModel, ABC):
    """One kind of fault. Its fields are the keys of its rule in a profile, with their bounds and descriptions.

    `name` is its `kind` in a profile, and the docstring what the documentation says of it. `letter` names it in strata.
    `sites` says where it can stand: "hop" is the connection, "tool" the tool itself, "host" the host behind the hop.
    `codes` are the statuses that an attempt can end with because of it. A kind that `breaks_host` harms the process
    that hosts the tool and with it whatever else is served there; one that `kills_host` ends it. One that `disturbs`
    strikes a host for everybody, for `outage_s`; one `on_link` needs a link between two hosts.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    name: ClassVar[str]
    letter: ClassVar[str]
    sites: ClassVar[frozenset[Site]]
    codes: ClassVar[frozenset[str]] = frozenset()
    breaks_host: ClassVar[bool] = False
    kills_host: ClassVar[bool] = False
    disturbs: ClassVar[bool] = False
    on_link: ClassVar[bool] = False

    @classmethod
    def keys(cls) -> dict[str, tuple[str, Key]]:
        """The keys of its rule in a profile, each with the field that it sets and how it is written."""
        found = {}
        for field, info in cls.model_fields.items():
            key = next((one for one in info.metadata if isinstance(one, Key)), Key(name=field))
            found[key.name] = (field, key)
        return found

    @abstractmethod
    def ending(self, struck: Struck) -> Ending:
        """The ending of an attempt that the fault strikes: a pure function of both."""

    def on_hop(self) -> Lane | Refusal:
        """The lane or the refusal that delivers it on a hop.

        Raises INVALID_ARGUMENT for a kind that only acts at a tool.
        """
        raise invalid_argument(
            "fault_site", expected="a kind that can act on a hop", got=self.name, todo='use site = "tool"'
        )

    async def at_tool(self, call: CallUnderFault) -> Any:
        """Runs the tool under the fault where the tool is; the tool's answer. Raises what the caller is to see."""
        raise invalid_argument(
            "fault_site", expected="a kind that can act at a tool", got=self.name, todo='use site = "hop"'
        )

    def at_host(self, host: StruckHost) -> AbstractAsyncContextManager[None]:
        """The harm at the host behind the hop: done when the block is entered, healed when it is left.

        Raises INVALID_ARGUMENT for a kind that acts elsewhere.
        """
        raise invalid_argument(
            "fault_site",
            expected="a kind that can act at a host",
            got=self.name,
            todo='use site = "hop" or "tool"',
        )

    @property
    def outage_s(self) -> float:
        """Seconds after which the host that it strikes is healed."""
        return 0.0

    @property
    def standstill_s(self) -> float:
        """Seconds for which it keeps the tool's host from its work while that lives."""
        return 0.0

    @property
    def held_mb(self) -> int:
        """MiB that the tool's host holds meanwhile."""
        return 0

    @property
    def kept_mb(self) -> int:
        """MiB that the tool's host keeps until it ends."""
        return 0

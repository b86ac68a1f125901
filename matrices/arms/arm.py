"""An arm, the placement of an agent's routing that a campaign measures, and the comparison of two of them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from chaos.faults import Hop
from matrices.spec import strict
from treni.errors import TreniError, invalid_argument

AGAIN = "_b"
"""What the name of an arm's second instance ends with, and the name of each of its roles."""

MODEL_APART = "model"
"""The role of a model that is moved out of a process which another arm's tools may break."""

PROXY = "toxiproxy"
"""The role of the proxies on the hops that can be faulted, which is no arm's."""

_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")


@dataclass(frozen=True, kw_only=True, slots=True)
class Arm:
    """One placement of the routing: which process answers for it, and in which its model and its tools are.

    A role names a process. `agent` is the role that answers, `model` and `tools` are the roles that host the model
    and the tools; each of them that is not the agent's own is reached over a hop. `faultable` are the hops that a
    schedule can put faults on; faults at the tool itself reach every arm. Raises INVALID_ARGUMENT (`arm_invalid`) for
    a name that no file or request can bear, or a fault on a hop that is none.
    """

    __pydantic_config__ = strict.STRICT

    name: str
    """The word for the arm in plans, histories, tables and files, such as "external"."""
    routing: str
    """The subject of a sentence about the arm, such as "external routing"."""
    short: str
    """The name in the few letters that a narrow heading has room for."""
    agent: str
    model: str
    tools: str
    faultable: tuple[Hop, ...] = ()
    engine_timings: bool = True
    """Whether its records tell the engine's stages and how sure it was; where they do not, the model hop holds the
    model's whole time."""
    alike: bool = True
    """Whether two runs of one task must do the same, with the same calls, answers and tokens: a pair of arms that must,
    and did not, is void."""
    original: str = ""
    """The arm of which this one is the second instance, "" for none."""
    model_outside: bool = False
    """Whether its model is somebody else's service, which no process of a campaign hosts: `model` is a mere word then,
    and which calls that model makes is seen in a run's record and not known before."""
    tokens: bool = True
    """Whether every record tells the tokens; where not, a run that tells none has an unknown number of them."""
    seen: bool = True
    """Whether its records have its attempts at model and tools. One that is not seen is a black box: no fault reaches
    what it calls, and nobody can say what it called or which effects that had."""

    def __post_init__(self) -> None:
        words = {"name": self.name, "agent": self.agent, "model": self.model, "tools": self.tools}
        for what, word in {**words, "short": self.short}.items():
            if _NAME.fullmatch(word) is None:
                raise _invalid(
                    f"a {what} of lower-case letters and digits joined by _ in the arm {self.name}", word
                )
            if self.original == "" and word.endswith(AGAIN):
                raise _invalid(
                    f"a {what} of the arm {self.name} without {AGAIN} at its end, which is a second instance's",
                    word,
                )
        if PROXY in self.roles:
            raise _invalid(f"roles of the arm {self.name} apart from that of the proxies", PROXY)
        if not self.routing.isprintable() or not self.routing.strip():
            raise _invalid(f"words for `routing` in the arm {self.name}", self.routing)
        if not isinstance(self.faultable, tuple):
            raise _invalid(f"a tuple of hops as `faultable` of the arm {self.name}", repr(self.faultable))
        if not self.seen and (self.hops or self.alike or self.engine_timings):
            raise _invalid(
                f"a black box ({self.name}) in one process, whose engine nobody sees and whose runs need not be alike",
                "an arm that says otherwise",
            )
        if stray := sorted({*self.faultable} - self.hops):
            raise _invalid(
                f"faults on hops that the arm {self.name} has: {_listed(self.hops)}", _listed(stray)
            )

    @property
    def hops(self) -> frozenset[Hop]:
        """The calls that leave the process which answers."""
        places: tuple[tuple[Hop, str], ...] = (("model", self.model), ("tool", self.tools))
        return frozenset(hop for hop, role in places if role != self.agent)

    @property
    def roles(self) -> frozenset[str]:
        """The processes that it is made of."""
        return frozenset(
            {self.agent, self.tools} if self.model_outside else {self.agent, self.model, self.tools}
        )

    @property
    def has_engine(self) -> bool:
        """Whether its model is an engine of ours."""
        return self.seen and not self.model_outside

    @property
    def recorded_as(self) -> str:
        """The name in the records of its runs: that of the original for a second instance."""
        return self.original or self.name

    def again(self) -> Arm:
        """The second instance of the arm, in processes of its own."""
        return replace(
            self,
            name=self.name + AGAIN,
            short=self.short + AGAIN,
            agent=self.agent + AGAIN,
            model=self.model + AGAIN,
            tools=self.tools + AGAIN,
            original=self.recorded_as,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """Two arms: differences are `compared` less `baseline`, ratios `compared` over `baseline`.

    The arms may share a process for their model, and no other. Raises INVALID_ARGUMENT (`arms_entangled`) where they
    do.
    """

    baseline: Arm
    compared: Arm

    def __post_init__(self) -> None:
        one, other = self
        if shared := {one.agent, one.tools} & {other.agent, other.tools}:
            raise invalid_argument(
                "arms_entangled",
                expected=f"an agent and tools of its own for each of {one.name} and {other.name}",
                got=f"{_listed(shared)} in both",
                todo="name other roles in one of the arms",
            )

    def __iter__(self) -> Iterator[Arm]:
        return iter((self.baseline, self.compared))

    @property
    def names(self) -> tuple[str, str]:
        """The names of the arms, the baseline's first."""
        return self.baseline.name, self.compared.name

    def arm(self, name: str) -> Arm:
        """The arm of that name. Raises KeyError for another."""
        return {arm.name: arm for arm in self}[name]

    @property
    def alike(self) -> bool:
        """Whether both arms must do the same with one task."""
        return all(arm.alike for arm in self)

    @property
    def floor(self) -> Comparison:
        """The baseline against its own second instance: what it differs by is noise."""
        return Comparison(baseline=self.baseline, compared=self.baseline.again())

    @property
    def apart(self) -> Comparison:
        """The same arms without a process in common: a model that is reached over a hop moves to one of its own."""
        one, other = self
        if not (one.has_engine and other.has_engine):
            return self
        if other.model not in one.roles and one.model not in other.roles:
            return self
        if "model" in other.hops:
            return replace(self, compared=replace(other, model=MODEL_APART))
        return replace(self, baseline=replace(one, model=MODEL_APART))


def _invalid(expected: str, got: str) -> TreniError:
    return invalid_argument("arm_invalid", expected=expected, got=got, todo="correct the arm's file")


def _listed(names: object) -> str:
    assert isinstance(names, frozenset | set | list)
    return ", ".join(sorted(names)) or "none"

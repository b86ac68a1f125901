"""What a role is told of the cell that begins there: the one way in which a configuration reaches a process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pydantic

from chaos.faults import Hop
from chaos.schedule import AttemptScheduler, Schedule
from controller.policy import Policy
from controller.ports import Annotate, AttemptKey
from matrices.planning.schedules import policy_of, schedules_of
from matrices.spec.networks import NetworkProfile
from matrices.spec.outside import AgentSpec, EndpointSpec
from matrices.spec.profiles import Profile
from treni.errors import TreniError, invalid_argument

if TYPE_CHECKING:  # a role takes a configuration and plans none
    from matrices.arms.parts import Part
    from matrices.planning.plan import PlannedCell


class Striker(pydantic.BaseModel):
    """Who strikes the host behind a hop: the address of its HostService, and the role behind the hop."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    address: str
    role: str


NO_STRIKER = Striker(address="", role="")


class CellConfig(pydantic.BaseModel):
    """One cell as one role sees it.

    `role` is what the role is called in the cell, and `arm` the arm that it works for. `agent` is the arm's name
    in the records of the agent that answers here, None where none does; `faultable` are the hops of that agent that go
    through proxies. `model` and `tools` say whether an arm's are here, and `caller` which arm's calls at the model are
    logged here. `starts` has the number of the next attempt on each hop of the arm that a schedule acts on. `port` is
    where the role's own service must answer, 0 for any free port. The addresses are for an agent with hops, one of
    `controllers`: those of the tools are several where calls are spread; so are the `strikers` of hops that lead to a
    host which a schedule strikes. `fence` is the session that the role's calls are for and its service takes calls of
    (`treni.fence`), "" for any. `networks` are those that the agent's hops are made to be like. `listed` has the digest
    of each tool that the campaign was planned with, empty where those of this version are meant. `endpoint` is the
    model of an agent whose model is outside, `own_agent` the user's own agent that answers here.
    """

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    cell: str
    role: str
    arm: str
    agent: str | None
    faultable: tuple[Hop, ...]
    model: bool
    tools: bool
    caller: str
    profile: Profile
    cycle: int | None
    seed: int
    concurrency: int
    starts: dict[Hop, int]
    port: int = 0
    fence: str = ""
    networks: dict[Hop, NetworkProfile] = {}
    model_address: str = ""
    tools_addresses: tuple[str, ...] = ()
    controllers: int = 1
    toxiproxy_address: str = ""
    strikers: dict[Hop, Striker] = {}
    listed: dict[str, str] = {}
    endpoint: EndpointSpec | None = None
    own_agent: AgentSpec | None = None

    @property
    def schedules(self) -> dict[Hop, Schedule]:
        """The schedules that act on the arm, by hop, their faults named after the cell."""
        schedules = schedules_of(self.profile, prefix=self.cell, cycle=self.cycle)
        return {schedule.hop: schedule for schedule in schedules if schedule.hop in self.starts}

    @property
    def policy(self) -> Policy:
        """The policy of the cell's attempts, with the campaign's seed."""
        return policy_of(self.profile, seed=self.seed)

    @property
    def annotate(self) -> Annotate | None:
        """What puts the scheduled faults on attempts; None where no schedule acts on the arm."""
        schedulers = [
            AttemptScheduler(schedule, self.starts[hop], concurrency=self.concurrency)
            for hop, schedule in self.schedules.items()
        ]

        def annotate(key: AttemptKey) -> dict[str, str]:
            """What the schedule of the attempt's hop says; those of others say nothing."""
            return {name: mark for one in schedulers for name, mark in one.annotate(key).items()}

        return annotate if schedulers else None


def config_of(
    cell: PlannedCell,
    part: Part,
    *,
    concurrency: int,
    counters: Mapping[str, int],
    fence: str = "",
    networks: Mapping[Hop, NetworkProfile] = {},
    listed: Mapping[str, str] = {},
    endpoint: EndpointSpec | None = None,
    own_agent: AgentSpec | None = None,
) -> CellConfig:
    """The configuration of a planned cell for one role, its addresses yet to be known.

    `counters` gives, for each of the cell's counts of attempts, the number to start from; `fence` is the session by
    which its calls are told from others', "" for none; `networks` are emulated on the hops of its agent; `listed` has
    the digests of the campaign's tools. `endpoint` and `own_agent` are the campaign's, for the part that they are of.
    """
    arm = part.arm.name
    return CellConfig(
        cell=cell.name,
        role=part.role,
        arm=arm,
        agent=None if part.agent is None else part.agent.recorded_as,
        faultable=() if part.agent is None else tuple(sorted(part.agent.faultable)),
        model=bool(part.modelled),
        tools=part.tooled is not None,
        # What is delivered on the hop to the model is the callers'; whose it is, its run's id tells.
        caller=part.callers[0].name if part.callers else arm,
        profile=cell.profile,
        cycle=cell.cycle,
        seed=cell.seed,
        concurrency=concurrency,
        controllers=cell.replicas.controllers,
        fence=fence,
        networks={hop: one for hop, one in networks.items() if part.agent and hop in part.agent.hops},
        listed=dict(listed) if part.tooled is not None else {},
        endpoint=endpoint if part.agent is not None and part.agent.model_outside else None,
        own_agent=own_agent if part.agent is not None and not part.agent.seen else None,
        starts={counter.hop: counters[counter.key] for counter in cell.counters if counter.arm == arm},
    )


def parse_config(text: str) -> CellConfig:
    """The configuration in a JSON text. Raises INVALID_ARGUMENT (`cell_config_malformed`) that names the key."""
    try:
        return CellConfig.model_validate_json(text)
    except (pydantic.ValidationError, TreniError) as error:
        got = str(error)
        if isinstance(error, pydantic.ValidationError):
            first = error.errors(include_url=False)[0]
            got = f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
        raise invalid_argument(
            "cell_config_malformed",
            expected="a cell's configuration as this version of treni-route writes it",
            got=got,
            todo="use the same version of treni-route on every host",
        ) from None

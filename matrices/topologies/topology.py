"""What a topology is: where the roles of a cell run, and whether they do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from matrices.arms.parts import ONE_OF_EACH, Replicas
from matrices.arms.parts import kind_of as kind_of
from matrices.evidence.campaign import Campaign
from matrices.planning.plan import PlannedCell
from matrices.topologies.supervisor import Ward
from treni.errors import invalid_argument


class Placed(Protocol):
    """Where the roles of one segment of a cell run.

    `addresses` are those of each role's EvidenceService, `scope` names the cell's evidence there, and
    `toxiproxy_address` is the API of the proxies' server.
    """

    @property
    def addresses(self) -> Mapping[str, str]:
        """The address of each role's EvidenceService."""
        ...

    @property
    def scope(self) -> str:
        """The name of the cell's evidence at each role."""
        ...

    @property
    def toxiproxy_address(self) -> str:
        """The address of the toxiproxy server's API, as the controller reaches it."""
        ...

    @property
    def foreign(self) -> bool:
        """Whether somebody else started the roles, so that it has to be asked what code they run."""
        ...

    @property
    def own_pids(self) -> Mapping[str, int]:
        """Process ids, by name, of what the topology started beside the roles."""
        ...

    def deaths(self) -> dict[str, str]:
        """How processes ended that the topology started, by role, as far as that is known by now."""
        ...

    def wards(self, again: Callable[[str], Awaitable[None]]) -> dict[str, Ward]:
        """Who brings a role back that a planned fault killed; `again` then begins the cell at it once more."""
        ...


@runtime_checkable
class Regional(Protocol):
    """A `Placed` that also knows in which region each role runs."""

    @property
    def regions(self) -> Mapping[str, str]:
        """The region of each role; empty where none was declared."""
        ...


@runtime_checkable
class Struckable(Protocol):
    """A `Placed` whose hosts can be struck: whoever places the cell elsewhere refuses its faults between hosts."""

    @property
    def host_of(self) -> Mapping[str, str]:
        """The name of each role's host."""
        ...

    @property
    def host_agents(self) -> Mapping[str, str]:
        """The address of each host's own EvidenceService, that of the role "host", by the host's name."""
        ...


class Topology(Protocol):
    """Where the services of a campaign run. Everything else reaches them by address alone."""

    def refuse(self, campaign: Campaign) -> None:
        """Raises INVALID_ARGUMENT for a campaign that cannot be run here; touches nothing."""
        ...

    def place(
        self, cell: PlannedCell, campaign: Campaign, *, session: str, take: int
    ) -> AbstractAsyncContextManager[Placed]:
        """The roles of the cell while the block runs, their own services not yet begun.

        `session` is drawn for one segment, `take` counts how often the cell broke and was begun anew. Raises
        UNAVAILABLE where a role is not there.
        """
        ...


def one_of_each(settings: Mapping[str, Any], asked: Replicas) -> Replicas:
    """The number of each service in a topology that has one. Raises INVALID_ARGUMENT where more were asked for."""
    if asked.several:
        raise invalid_argument(
            "replicas_not_here",
            expected="one controller and one tool service in this topology",
            got=f"--controllers {asked.controllers} --tool-services {asked.tool_services}",
            todo="use --topology local, or a file of hosts that lists them",
        )
    return ONE_OF_EACH


@dataclass(frozen=True, kw_only=True, slots=True)
class TopologyEntry:
    """One kind of topology, as `TOPOLOGIES` holds it.

    `settings` makes what the manifest keeps of it, a JSON object, out of the argument that the user gave (None for
    none); `build` makes the topology of such settings; `replicas` says how many controllers and tool services there are
    under such settings where so many were asked for. All raise INVALID_ARGUMENT for what is wrong.
    """

    name: str
    settings: Callable[[str | None], dict[str, Any]]
    build: Callable[[Mapping[str, Any]], Topology]
    replicas: Callable[[Mapping[str, Any], Replicas], Replicas] = one_of_each


def scope_of(cell: PlannedCell, take: int) -> str:
    """The name of a cell's evidence within its campaign: what a take that broke left behind stays apart."""
    return cell.name if take == 0 else f"{cell.name}+{take}"

"""The topology of services that already run somewhere, by address: `--topology hosts.toml`."""

from __future__ import annotations

import secrets
import socket
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from chaos.toxiproxy import ToxiproxyServer
from matrices.arms.parts import ONE_OF_EACH, Part, Replicas
from matrices.evidence.campaign import Campaign
from matrices.planning.plan import PlannedCell
from matrices.topologies.hosts_file import HostsFile, Service, Site, kept, read_hosts, validated
from matrices.topologies.role_client import RoleClient
from matrices.topologies.supervisor import Ward
from matrices.topologies.topology import TopologyEntry, kind_of, scope_of
from treni.channels import showing
from treni.errors import invalid_argument


class HostsPlaced:
    """Services that ran before the segment began, and will after it."""

    foreign = True

    def __init__(
        self,
        *,
        addresses: Mapping[str, str],
        scope: str,
        toxiproxy_address: str,
        own: ToxiproxyServer | None,
        regions: Mapping[str, str],
        host_of: Mapping[str, str],
        host_agents: Mapping[str, str],
    ) -> None:
        self.regions = dict(regions)
        self.addresses = dict(addresses)
        self.host_of = host_of
        self.host_agents = host_agents
        self.scope = scope
        self.toxiproxy_address = toxiproxy_address
        self._own = own

    @property
    def own_pids(self) -> dict[str, int]:
        """A toxiproxy server of ours, where there is one."""
        return {} if self._own is None or self._own.pid is None else {"toxiproxy": self._own.pid}

    def deaths(self) -> dict[str, str]:
        """How a toxiproxy server of ours ended; of everything else only `CellServices.look` can know."""
        death = None if self._own is None else self._own.death()
        return {} if death is None else {"toxiproxy": death}

    def wards(self, again: Callable[[str], Awaitable[None]]) -> dict[str, Ward]:
        """Nobody: what dies on another host is for that host to bring back."""
        return {}


class Hosts:
    """Services by address."""

    def __init__(self, file: HostsFile, campaign: str) -> None:
        self._file = file
        self._campaign = campaign

    def refuse(self, campaign: Campaign) -> None:
        """Raises INVALID_ARGUMENT for fresh processes, a model, crashes, and doors and faults that can't be."""
        self._file.keyring()
        if campaign.options.restarts > 1:
            raise invalid_argument(
                "restarts_not_here",
                expected="--restarts 1 with services that already run",
                got=str(campaign.options.restarts),
                todo="use --topology local: only it starts processes",
            )
        if campaign.options.model_dir is not None:
            raise invalid_argument(
                "model_not_here",
                expected="no --model with services that already run",
                got=campaign.options.model_dir,
                todo="start the agent with that --model; the report names what it serves",
            )
        for cell in campaign.cells:
            for part, site in _needed(cell):
                for service in self._able(part):
                    if site not in service.faults:
                        where = f"the {service.role} on {service.host}"
                        raise invalid_argument(
                            "fault_not_allowed",
                            expected=f'faults = [..., "{site}"] for {where}, as {cell.name} needs it',
                            got=str(list(service.faults)),
                            todo="allow it in the file of hosts, or choose other profiles",
                        )
            if any(kind.kills_host for kind in cell.kinds):
                raise invalid_argument(
                    "crash_not_here",
                    expected="faults that leave the services on their hosts alive",
                    got=f"{cell.name}, which kills processes",
                    todo="use --topology local: only it can start them again",
                )

            self._refuse_unstruck(cell)

    def _refuse_unstruck(self, cell: PlannedCell) -> None:
        """Raises INVALID_ARGUMENT where a host that the cell strikes has nobody who does, or no link to be struck."""
        assigned = self._assigned(cell) if cell.disturbs else {}
        hosts = {role: service.host for role, (service, _) in assigned.items()}
        for counter in cell.counters if cell.disturbs else ():
            arm = cell.comparison.arm(counter.arm)
            end = {"tool": arm.tools, "model": arm.model}.get(counter.hop, arm.agent)
            if missing := sorted({*hosts.values()} - {agent.name for agent in self._file.host}):
                raise invalid_argument(
                    "fault_not_here",
                    expected=f"a table [[host]] for each host of {cell.name}, which strikes hosts",
                    got=f"none for {', '.join(missing)}",
                    todo="run `treni-route serve host --testbed` there, and list it",
                )
            linked = sorted(kind.name for kind in cell.kinds if kind.on_link)
            caller, near = arm.agent, hosts[arm.agent] == hosts[end]
            if counter.hop == "agent":
                caller, near = "harness", _is_here(assigned[end][0].address)
            if linked and near:
                raise invalid_argument(
                    "fault_not_here",
                    expected=f"a link between the {caller} and the {end}, which {linked[0]} of {cell.name} strikes",
                    got=f"both on {hosts[end]}",
                    todo="put them on two hosts, or the rule on another `hop`",
                )

    @asynccontextmanager
    async def place(
        self, cell: PlannedCell, campaign: Campaign, *, session: str, take: int
    ) -> AsyncIterator[HostsPlaced]:
        """The services of the file; for a role that it lacks a second process of an agent, until the session ends."""
        async with AsyncExitStack() as stack:
            stack.enter_context(showing(self._file.keyring()))
            placed = await self._addresses(cell, session)
            address, own = campaign.options.toxiproxy, None
            if address is None and self._file.toxiproxy is not None:
                address = self._file.toxiproxy.address
            if address is None:
                own = await stack.enter_async_context(
                    await ToxiproxyServer.start(log_path=campaign.folder / "toxiproxy.log")
                )
                address = own.address
            else:
                await ToxiproxyServer.attach(address)
            yield HostsPlaced(
                addresses={role: where for role, (where, _) in placed.items()},
                host_of={role: service.host for role, (_, service) in placed.items()},
                host_agents={agent.name: agent.address for agent in self._file.host},
                scope=f"{self._campaign}/{scope_of(cell, take)}",
                toxiproxy_address=address,
                own=own,
                regions={role: one.region for role, (_, one) in placed.items() if one.region is not None},
            )

    async def _addresses(self, cell: PlannedCell, session: str) -> dict[str, tuple[str, Service]]:
        """The address of every role of the cell and the service that it is of, in the order in which they begin."""
        return {
            role: (service.address if free else await _twin(service, session), service)
            for role, (service, free) in self._assigned(cell).items()
        }

    def _assigned(self, cell: PlannedCell) -> dict[str, tuple[Service, bool]]:
        """The service of each role, and whether it is that itself or another process of it."""
        taken: Counter[str] = Counter()
        assigned: dict[str, tuple[Service, bool]] = {}
        for role, part in cell.parts.items():
            # The first that has least to do: none before all have something, and then second processes evenly.
            service = min(self._able(part), key=lambda one: taken[one.address])
            assigned[role] = service, taken[service.address] == 0
            taken[service.address] += 1
        return assigned

    def _able(self, part: Part) -> list[Service]:
        """The services that can be the part, those of its very kind first."""
        kind = kind_of(part)
        return [*self._file.of(kind), *(self._file.of("agent") if kind == "runtime" else [])]


def _is_here(address: str) -> bool:
    """Whether the address is one of this machine's."""
    host = address.rpartition(":")[0].strip("[]")
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.bind((host, 0))
    except OSError:
        return False
    return True


async def _twin(service: Service, session: str) -> str:
    """The address of another process of the service, until the session ends."""
    client = RoleClient(service.role, service.address)
    try:
        return await client.twin(session)
    finally:
        await client.close()


def _settings(argument: str | None) -> dict[str, Any]:
    """The file's content, and a name that keeps this campaign's evidence apart on those hosts."""
    if argument is None:
        raise invalid_argument(
            "topology_argument", expected="a .toml file of hosts", got="none", todo="see docs/topologies.md"
        )
    path = Path(argument)
    return {"hosts": kept(read_hosts(path), path), "campaign": secrets.token_hex(8)}


def _build(settings: Mapping[str, Any]) -> Hosts:
    return Hosts(validated(settings.get("hosts"), "the manifest's hosts"), str(settings.get("campaign", "")))


def listed_replicas(settings: Mapping[str, Any], asked: Replicas) -> Replicas:
    """The number of each that the file lists. Raises INVALID_ARGUMENT where others were asked for."""
    file = validated(settings.get("hosts"), "the manifest's hosts")
    listed = Replicas(controllers=len(file.of("controller")), tool_services=len(file.of("tools")))
    if asked not in (ONE_OF_EACH, listed):
        raise invalid_argument(
            "replicas_not_here",
            expected=f"{listed.controllers} controllers and {listed.tool_services} tool services, as the file lists",
            got=f"--controllers {asked.controllers} --tool-services {asked.tool_services}",
            todo="leave the options out, or correct the file",
        )
    return listed


ENTRY = TopologyEntry(name="hosts", settings=_settings, build=_build, replicas=listed_replicas)


def _needed(cell: PlannedCell) -> Iterator[tuple[Part, Site]]:
    """Which parts the cell's schedules fault, and at which site."""
    for counter in cell.counters:
        arm = cell.comparison.arm(counter.arm)
        if counter.site == "host":
            continue  # a host allows it by its table
        if counter.site == "tool":
            yield cell.parts[arm.tools], "host" if cell.breaks_hosts else "tool"
        else:
            yield cell.parts[{"tool": arm.tools, "model": arm.model}.get(counter.hop, arm.agent)], "hop"

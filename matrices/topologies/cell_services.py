"""The services of one segment of a cell, wherever they run: begun, watched, asked for evidence, and ended."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import grpc

from chaos.deliveries import read_deliveries
from chaos.toxiproxy import ToxiproxyClient
from matrices.arms.parts import replicas_of
from matrices.evidence import events as ev
from matrices.evidence.campaign import Campaign
from matrices.planning.plan import PlannedCell
from matrices.topologies.cell_config import CellConfig, config_of
from matrices.topologies.cell_evidence import Evidence, evidence_of
from matrices.topologies.client_lanes import client_lanes
from matrices.topologies.host_agents import HostAgents
from matrices.topologies.role_client import Reading, RoleClient, gathered, reading
from matrices.topologies.roles_asked import check_backend, check_kind, check_version, identity, info_of
from matrices.topologies.supervisor import Ward
from matrices.topologies.topology import Placed, Regional, Topology, kind_of, scope_of
from treni.errors import Code, TreniError
from treni.v1 import inference_pb2

REFUSED_LIMIT_S = 3.0
"""How long nobody may listen at a role's address before the role counts as dead; one that is restarted takes longer."""

RETRY_S = 0.1
PROXY = "toxiproxy"


class CellServices:
    """A segment's services; both arms by address. Use `CellServices.open`.

    `fence` is the session that their callers have to name (`treni.fence`), "" where nobody asks for it.
    """

    def __init__(
        self,
        *,
        cell: PlannedCell,
        placed: Placed,
        session: str,
        clients: Mapping[str, RoleClient],
        configs: dict[str, CellConfig],
        folder: Path,
        fence: str,
        toxiproxy_version: str,
        host_agents: HostAgents | None,
    ) -> None:
        self.fence = fence
        self._cell = cell
        self._placed = placed
        self._session = session
        self._sessions = {session}
        self._clients = clients
        self._configs = configs
        self._folder = folder
        self._deaths: dict[str, str] = {}
        self.host_agents = host_agents
        self.info = inference_pb2.InfoResponse()
        self.hosts: dict[str, Any] = {}
        self.toxiproxy_version = toxiproxy_version
        self.wards: Mapping[str, Ward] = {}

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        topology: Topology,
        cell: PlannedCell,
        campaign: Campaign,
        *,
        counters: Mapping[str, int],
        take: int = 0,
        continues: bool = False,
    ) -> AsyncIterator[CellServices]:
        """The cell begun at all its roles while the block runs.

        `counters` gives, for each of the cell's counts of attempts, the number to start from; `take` is that of
        `Topology.place`; with `continues` each role must hold the evidence of an earlier session. Raises UNAVAILABLE
        if a role does not come up, FAILED_PRECONDITION if one is not what the campaign needs.
        """
        session = secrets.token_hex(8)
        fence = session if campaign.options.fencing else ""
        async with AsyncExitStack() as stack:
            placed = await stack.enter_async_context(
                topology.place(cell, campaign, session=session, take=take)
            )
            clients = {role: RoleClient(role, address) for role, address in placed.addresses.items()}
            for client in clients.values():
                stack.push_async_callback(client.close)
            configs = {
                role: config_of(
                    cell,
                    part,
                    concurrency=campaign.options.concurrency,
                    counters=counters,
                    fence=fence,
                    networks=campaign.options.networks,
                    listed=campaign.options.tooling.digests,
                    endpoint=campaign.options.endpoint,
                    own_agent=campaign.options.own_agent,
                )
                for role, part in cell.parts.items()
            }
            version = ""
            if placed.toxiproxy_address:
                version = await asyncio.to_thread(ToxiproxyClient(placed.toxiproxy_address).version)
            services = cls(
                cell=cell,
                placed=placed,
                session=session,
                clients=clients,
                configs=configs,
                folder=campaign.folder / "cells" / scope_of(cell, take),
                fence=fence,
                toxiproxy_version=version,
                host_agents=HostAgents.of(cell, placed),
            )
            try:
                await services._begin(continues=continues)
                if services.info.backend:
                    check_backend(campaign.options.backend, services.info)
                yield services
            finally:
                services.note_deaths()
                if services.host_agents is not None:
                    await services.host_agents.release()  # first: what is stopped could not answer
                for role in reversed(list(clients)):
                    if role not in services._deaths:
                        await clients[role].release(session)

    async def _begin(self, *, continues: bool) -> None:
        """Asks every role who it is, then begins the cell: those last that are told where the others are."""
        clients = tuple(self._clients.values())
        await gathered([client.hold(self._session) for client in clients])
        for client, told in zip(clients, await gathered([client.read() for client in clients]), strict=True):
            check_kind(client, kind_of(self._cell.parts[client.role]), told.status)
            if self._placed.foreign:
                check_version(client, told.status)
                self.hosts[client.role] = {
                    "machine": told.status.machine.name,
                    "processors": told.status.machine.processors,
                    "versions": dict(sorted(told.status.versions.items())),
                }
                if isinstance(self._placed, Regional) and client.role in self._placed.regions:
                    self.hosts[client.role]["region"] = self._placed.regions[client.role]
        if self.host_agents is not None:
            config = next(iter(self._configs.values()))
            await self.host_agents.begin(self._session, self._placed.scope, config, continues=continues)
            for client in self.host_agents.clients if self._placed.foreign else ():
                check_version(client, (await client.read()).status)
        parts = self._cell.parts
        callers = {role: part.agent for role, part in parts.items() if part.agent and part.agent.hops}
        await gathered([self._begin_at(role, continues=continues) for role in parts if role not in callers])
        for role, arm in callers.items():
            addresses: dict[str, Any] = {"toxiproxy_address": self._placed.toxiproxy_address}
            if "model" in arm.hops and not arm.model_outside:
                addresses["model_address"] = self._clients[arm.model].service
            if "tool" in arm.hops:
                hosts = replicas_of(arm.tools, parts)
                addresses["tools_addresses"] = tuple(self._clients[host].service for host in hosts)
            strikers = {} if self.host_agents is None else self.host_agents.strikers(arm)
            self._configs[role] = self._configs[role].model_copy(update=addresses | {"strikers": strikers})
        await gathered([self._begin_at(role, continues=continues) for role in callers])
        self.info = await self._same_model()
        for role in parts:
            # Where it is begun once more, it serves where the others know it.
            port = int(self._clients[role].service.rpartition(":")[2])
            self._configs[role] = self._configs[role].model_copy(update={"port": port})
        self.wards = self._placed.wards(lambda role: self._begin_at(role, continues=True))
        if self.host_agents is not None:
            await self.host_agents.prepare(self._clients, self._configs, self._placed.scope)

    async def _begin_at(self, role: str, *, continues: bool) -> None:
        await self._clients[role].begin(
            self._session, self._placed.scope, self._configs[role], continues=continues
        )

    async def _same_model(self) -> inference_pb2.InfoResponse:
        """What every runtime of the cell says of itself, nothing where there is none.

        Raises FAILED_PRECONDITION unless all serve the same.
        """
        roles = [role for role, part in self._cell.parts.items() if part.modelled]
        if not roles:
            return inference_pb2.InfoResponse()
        infos = await gathered([info_of(self._clients[role], self.fence) for role in roles])
        for role, info in zip(roles, infos, strict=True):
            if identity(info) != identity(infos[0]):
                raise TreniError(
                    Code.FAILED_PRECONDITION,
                    "models_differ",
                    expected=f"the {role} to serve what the {roles[0]} serves, {identity(infos[0])}",
                    got=str(identity(info)),
                    todo="start both with the same --model and --backend, on the same kind of device",
                )
        first = self._cell.comparison.baseline.model
        return infos[roles.index(first) if first in roles else 0]

    def agents(self, arm: str) -> dict[str, str]:
        """Where the arm's AgentService answers, by role: several for one whose requests are spread."""
        roles = replicas_of(self._cell.comparison.arm(arm).agent, self._cell.parts)
        return {role: self._clients[role].service for role in roles}

    def lanes(self) -> AbstractAsyncContextManager[dict[str, grpc.aio.Channel]]:
        """Channels to the agents for the faults of the client's calls, by role; none where there are none."""
        return client_lanes(
            self._cell,
            addresses={arm: self.agents(arm) for arm in self._cell.arms},
            logs={arm: self._client_log(arm) for arm in self._cell.arms},
            toxiproxy_address=self._placed.toxiproxy_address,
            hosts=self.host_agents,
        )

    def _client_log(self, arm: str) -> Path:
        """Where the harness logs the faults of its own calls."""
        return self._folder / f"client-deliveries-{arm}.jsonl"

    @property
    def addresses(self) -> dict[str, str]:
        """Where each role's own service answers; a role that comes back serves there again."""
        return {role: client.service for role, client in self._clients.items()}

    @property
    def pids(self) -> dict[str, int]:
        """Process ids by role, as each host counts them."""
        return {**{role: client.pid for role, client in self._clients.items()}, **self._placed.own_pids}

    @property
    def epochs(self) -> dict[str, str]:
        """What each role drew at its start."""
        return {role: client.epoch for role, client in self._clients.items()}

    @property
    def own_pids(self) -> tuple[int, ...]:
        """Processes on this machine that are neither roles nor the harness."""
        return tuple(self._placed.own_pids.values())

    def note_deaths(self) -> list[str]:
        """How processes ended that should be running, as far as that is known by now; the first word stands.

        A role that died of a planned fault and is to come back is no such process.
        """
        for role, death in self._placed.deaths().items():
            if self.host_agents is not None and role in self._clients:
                continue  # whoever is struck may die as planned: `look` knows who comes back
            ward = self.wards.get(role)
            if ward is None or not ward.excused:
                self._deaths.setdefault(role, death)
        return self.deaths

    async def hear(self) -> None:
        """Hears what faults between hosts did by now, where there are any; a host that can't be healed is given up."""
        if self.host_agents is not None:
            try:
                await self.host_agents.poll()
            except TreniError as error:
                self.give_up("host", f"does not say what struck it: {error}")

    def _excuses(self, role: str) -> bool:
        return self.host_agents is not None and self.host_agents.excuses(role)

    def give_up(self, role: str, why: str) -> None:
        """Notes that a role is as good as dead."""
        self._deaths.setdefault(role, f"{role} {why}")

    def is_gone(self, role: str) -> bool:
        """Whether the role is dead for good."""
        self.note_deaths()
        return role in self._deaths

    @property
    def deaths(self) -> list[str]:
        """The deaths noted so far."""
        return list(self._deaths.values())

    async def look(self, *, limit_s: float) -> list[str]:
        """Asks every role and the toxiproxy server whether they are there and the same; `deaths` after that.

        One that does not answer within `limit_s`, or at whose address nobody listens, is given up, and so is one that
        was started again behind our back, which its epoch tells.
        """
        await self.hear()
        roles = [role for role in self._clients if role not in self.wards and not self.is_gone(role)]
        await asyncio.gather(
            *(self._look_at(role, limit_s) for role in roles), self._look_at_proxies(limit_s)
        )
        return self.note_deaths()

    async def _look_at(self, role: str, limit_s: float) -> None:
        client, began_s = self._clients[role], time.monotonic()
        while not self.is_gone(role) and not self._excuses(role):
            left_s = began_s + limit_s - time.monotonic()
            try:
                await self._same_epoch(client, await client.read(timeout_s=max(left_s, RETRY_S)))
                return
            except TreniError as error:
                await self.hear()
                waited_s = time.monotonic() - began_s
                if self._excuses(role):
                    return
                if error.code is Code.DEADLINE_EXCEEDED or waited_s >= limit_s:
                    self.give_up(role, f"did not answer for {limit_s:.0f} s")
                elif waited_s < REFUSED_LIMIT_S:
                    await asyncio.sleep(RETRY_S)
                elif error.code is Code.UNAVAILABLE:
                    self.give_up(role, f"does not answer at {client.address}: {error.got}")
                else:
                    self.give_up(role, f"does not say how it is: {error}")

    async def _look_at_proxies(self, limit_s: float) -> None:
        client, began_s = ToxiproxyClient(self._placed.toxiproxy_address, timeout_s=limit_s), time.monotonic()
        while not self.is_gone(PROXY):
            try:
                await asyncio.to_thread(client.version)
                return
            except TreniError as error:
                if time.monotonic() - began_s < min(REFUSED_LIMIT_S, limit_s):
                    await asyncio.sleep(RETRY_S)
                else:
                    self.give_up(PROXY, f"did not answer: {error}")

    async def _same_epoch(self, client: RoleClient, told: Reading) -> None:
        if self.host_agents is not None and told.status.epoch != client.epoch:
            await self.hear()
            if self.host_agents.accepts(client, told.status.epoch):
                return
        if told.status.epoch != client.epoch:
            self.give_up(
                client.role,
                f"was restarted: epoch {told.status.epoch} answers at {client.address}, the cell began at "
                f"epoch {client.epoch}",
            )
        elif (other := told.status.session) not in self._sessions:
            what = f"is in session {other}, another campaign's" if other else "has no session any more"
            self.give_up(client.role, what)

    async def readings(self) -> dict[str, Reading]:
        """What each role that answers says of itself and its machine; restarts behind our back are noted."""
        await self.hear()
        clients = [client for client in self._clients.values() if not self._excuses(client.role)]
        told = await asyncio.gather(*(reading(client) for client in clients), return_exceptions=True)
        readings: dict[str, Reading] = {}
        for client, one in zip(clients, told, strict=True):
            if isinstance(one, Reading):
                readings[client.role] = one
                if client.role not in self.wards:
                    await self._same_epoch(client, one)
            elif not isinstance(one, TreniError):
                raise one
        return readings

    async def clocks(self) -> dict[str, ev.Clock]:
        """How the clocks of each role that answers lie to ours: all asked at once, while nothing is measured."""
        told = await asyncio.gather(*(one.clock() for one in self._clients.values()), return_exceptions=True)
        for one in told:
            if isinstance(one, BaseException) and not isinstance(one, TreniError):
                raise one
        return {role: one for role, one in zip(self._clients, told, strict=True) if isinstance(one, ev.Clock)}

    async def evidence(self) -> Evidence:
        """Ends the cell at every role, the controller first, and gives what they hold. Raises `TreniError`."""
        if self.host_agents is not None:
            await self.host_agents.settle()
        clocks = await self.clocks()
        self._sessions.add("")
        for role in reversed(list(self._clients)):
            await self._clients[role].end(self._session)
        tellers = [*self._clients.values(), *(() if self.host_agents is None else self.host_agents.clients)]
        rows = await gathered([client.deliveries(self._placed.scope) for client in tellers])
        logged = [row for of_role in rows for row in of_role]
        for arm in self._cell.arms:
            mine = read_deliveries(self._client_log(arm))
            logged += [(arm, ev.Delivery(**asdict(delivery))) for delivery in mine]
        hosts = {arm.name: replicas_of(arm.tools, self._cell.parts) for arm in self._cell.comparison}
        effects = await gathered([self._effects(roles) for roles in hosts.values()])
        return evidence_of(self._cell, logged, dict(zip(hosts, effects, strict=True)), clocks=clocks)

    async def _effects(self, roles: Iterable[str]) -> list[ev.EffectRow]:
        """The entries of all these ledgers, one ledger after the other."""
        of_roles = await gathered([self._clients[role].effects(self._placed.scope) for role in roles])
        return [row for of_role in of_roles for row in of_role]

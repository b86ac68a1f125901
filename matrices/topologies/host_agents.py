"""The harness's side of faults between hosts: who strikes which host, and what the hosts tell of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import grpc

from chaos.faults import Hop
from chaos.faults.host import MAX_HOST_FAULT_MS
from matrices.arms.arm import Arm
from matrices.evidence import events as ev
from matrices.planning.plan import PlannedCell
from matrices.topologies.cell_config import CellConfig, Striker
from matrices.topologies.role_client import RoleClient, gathered
from matrices.topologies.supervisor import RESTART_LIMIT_S, RETRY_S
from matrices.topologies.topology import Placed, Struckable
from treni.channels import open_channel
from treni.errors import Code, TreniError, from_rpc_error
from treni.v1 import host_pb2, host_pb2_grpc

SETTLE_LIMIT_S = 2 * (MAX_HOST_FAULT_MS / 1000 + RESTART_LIMIT_S)
"""How long the last faults of a cell may take to be undone."""

POLL_TIMEOUT_S = 30.0


@dataclass(kw_only=True)
class _Known:
    """What was told of one strike: whether its events were, and the services that it harms until it is over."""

    roles: frozenset[str] = frozenset()
    struck: bool = False
    over: bool = False


@dataclass(kw_only=True)
class _Host:
    """One host of the cell, by the role that strikes it."""

    name: str
    client: RoleClient
    channel: grpc.aio.Channel | None = None
    known: dict[tuple[str, str], _Known] = field(default_factory=dict)

    @property
    def stub(self) -> host_pb2_grpc.HostServiceAsyncStub:
        """The host's own service, begun."""
        assert self.channel is not None
        return host_pb2_grpc.HostServiceStub(self.channel)


class HostAgents:
    """The hosts of one segment of a cell. `told` hears of each strike and each healing once, in any order of hosts."""

    def __init__(self, cell: PlannedCell, placed: Struckable) -> None:
        self.told: Callable[[ev.Event], None] = lambda event: None
        self._cell = cell
        self._host_of = dict(placed.host_of)
        self._hosts = {
            name: _Host(name=name, client=RoleClient(f"host{number}", address))
            for number, (name, address) in enumerate(placed.host_agents.items())
            if name in placed.host_of.values()
        }
        self._clients: Mapping[str, RoleClient] = {}
        self._session = ""
        self._came_back: dict[str, tuple[str, int]] = {}
        self._asking = asyncio.Lock()

    @classmethod
    def of(cls, cell: PlannedCell, placed: Placed) -> HostAgents | None:
        """The hosts of a cell whose schedule strikes some; None for any other cell.

        Raises INVALID_ARGUMENT (`fault_not_here`) where a host that is to be struck has nobody who does.
        """
        if not cell.disturbs:
            return None
        if isinstance(placed, Struckable):
            agents = cls(cell, placed)
            if agents._reaches_all():
                return agents
        raise TreniError(
            Code.INVALID_ARGUMENT,
            "fault_not_here",
            expected=f"somebody at each host who strikes it, as {cell.name} asks for",
            got="none",
            todo="use --topology local or hosts.toml, with `treni-route serve host --testbed` on each host",
            definite=True,
        )

    @property
    def clients(self) -> tuple[RoleClient, ...]:
        """The EvidenceServices of the hosts themselves."""
        return tuple(host.client for host in self._hosts.values())

    async def begin(self, session: str, scope: str, config: CellConfig, *, continues: bool) -> None:
        """Begins the cell at each host; whatever an earlier session left harmed is healed by that."""
        self._session = session
        await gathered([host.client.hold(session) for host in self._hosts.values()])
        for host in self._hosts.values():
            mine = config.model_copy(update=_NOBODY | {"role": host.client.role})
            await host.client.begin(session, scope, mine, continues=continues)
            host.channel = open_channel(host.client.service)

    def strikers(self, arm: Arm) -> dict[Hop, Striker]:
        """Who strikes behind each hop of the arm that a schedule strikes."""
        ends: dict[Hop, str] = {"agent": arm.agent, "model": arm.model, "tool": arm.tools}
        return {
            schedule.hop: Striker(
                address=self._at(ends[schedule.hop]).client.service, role=ends[schedule.hop]
            )
            for schedule in self._cell.schedules_on(arm.name)
            if schedule.site == "host"
        }

    async def prepare(
        self, clients: Mapping[str, RoleClient], configs: Mapping[str, CellConfig], scope: str
    ) -> None:
        """Tells each host which services of the cell it has, those that call no other first."""
        self._clients = clients
        for host in self._hosts.values():
            services = [
                host_pb2.HostedService(
                    role=role,
                    evidence_address=client.address,
                    service_address=client.service,
                    session=self._session,
                    scope=scope,
                    config_json=configs[role].model_dump_json(),
                )
                for role, client in clients.items()
                if self._host_of.get(role) == host.name
            ]
            try:
                await host.stub.Prepare(host_pb2.PrepareRequest(services=services), timeout=POLL_TIMEOUT_S)
            except grpc.aio.AioRpcError as error:
                raise from_rpc_error(error, hop="") from None

    async def poll(self) -> None:
        """Asks each host what struck it and what is healed. Raises `TreniError` where one can't be healed, or asked."""
        async with self._asking:
            for host in self._hosts.values():
                sent_s = time.monotonic()
                try:
                    answer = await host.stub.Strikes(host_pb2.StrikesRequest(), timeout=POLL_TIMEOUT_S)
                except grpc.aio.AioRpcError as error:
                    raise from_rpc_error(error, hop="") from None
                received_s = time.monotonic()
                for strike in answer.strikes:
                    await self._take(host, strike, sent_s, received_s)

    async def settle(self) -> None:
        """Waits until every fault that struck is undone."""
        limit_s = time.monotonic() + SETTLE_LIMIT_S
        await self.poll()
        while self._open and time.monotonic() < limit_s:
            await asyncio.sleep(RETRY_S)
            await self.poll()

    def excuses(self, role: str) -> bool:
        """Whether the role need not answer now, because of a fault that stands."""
        return role in self._open

    def accepts(self, client: RoleClient, epoch: str) -> bool:
        """Whether the role may answer with that epoch: a planned fault had it started again, or is about to."""
        if self.excuses(client.role):
            return True
        if self._came_back.get(client.role, ("", 0))[0] != epoch:
            return False
        client.epoch, client.pid = self._came_back[client.role]
        return True

    async def release(self) -> None:
        """Has every host healed now, and lets it go."""
        for host in self._hosts.values():
            await host.client.release(self._session)
            if host.channel is not None:
                await host.channel.close()
            await host.client.close()

    @property
    def _open(self) -> frozenset[str]:
        """The roles that a fault harms which stands."""
        standing = (known for host in self._hosts.values() for known in host.known.values() if not known.over)
        return frozenset().union(*(known.roles for known in standing))

    def _at(self, role: str) -> _Host:
        return self._hosts[self._host_of[role]]

    def _reaches_all(self) -> bool:
        return all(self._host_of.get(role) in self._hosts for role in self._cell.parts)

    async def _take(self, host: _Host, strike: host_pb2.HostStrike, sent_s: float, received_s: float) -> None:
        known = host.known.setdefault((strike.fault_id, strike.run_id), _Known())
        if strike.failed:
            raise TreniError(
                Code.INTERNAL,
                "fault_not_healed",
                expected=f"the host {host.name} to be whole again after {strike.fault_id}",
                got=strike.failed,
                todo="see the log of `treni-route serve host` there",
            )
        known.roles = frozenset(strike.roles)
        # By ages, not moments: of another host's clock only durations count.
        now_s, error_s = (sent_s + received_s) / 2, (received_s - sent_s) / 2
        if strike.HasField("struck_ago_s") and not known.struck:
            known.struck = True
            self.told(
                ev.Struck(
                    cell=self._cell.name,
                    fault_id=strike.fault_id,
                    run_id=strike.run_id,
                    host=host.name,
                    roles=tuple(strike.roles),
                    struck_s=now_s - strike.struck_ago_s,
                    error_s=error_s,
                )
            )
        if strike.HasField("back_ago_s") and not known.over:
            known.over = True
            for role, back in strike.back.items():
                self._came_back[role] = (back.epoch, back.pid)
                await self._clients[role].hold(self._session)
            self.told(
                ev.Healed(
                    cell=self._cell.name,
                    fault_id=strike.fault_id,
                    run_id=strike.run_id,
                    host=host.name,
                    lasted_s=strike.struck_ago_s - strike.healed_ago_s,
                    healed_s=now_s - strike.healed_ago_s,
                    back_s=now_s - strike.back_ago_s,
                    error_s=error_s,
                    packets=strike.packets,
                    pids={role: back.pid for role, back in strike.back.items()},
                )
            )


_NOBODY: dict[str, Any] = {
    "arm": "",
    "agent": None,
    "faultable": (),
    "model": False,
    "tools": False,
    "caller": "",
    "starts": {},
    "port": 0,
}
"""What the configuration of a host says where that of a role names its arm."""

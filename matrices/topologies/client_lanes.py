"""The harness's own channels to the agents, where a schedule puts faults on the client's calls."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import grpc

from chaos.deliveries import DeliveryLog
from chaos.lanes import open_lanes
from chaos.striking import striking
from matrices.planning.plan import PlannedCell
from matrices.topologies.cell_config import NO_STRIKER
from matrices.topologies.host_agents import HostAgents
from treni.channels import open_channel


@asynccontextmanager
async def client_lanes(
    cell: PlannedCell,
    *,
    addresses: Mapping[str, Mapping[str, str]],
    logs: Mapping[str, Path],
    toxiproxy_address: str,
    hosts: HostAgents | None,
) -> AsyncIterator[dict[str, grpc.aio.Channel]]:
    """A channel to each agent, by role, with a lane for each fault or with who strikes its host.

    `addresses` are those of each arm's agents, by role; `logs` is where each arm's deliveries go. None where the
    schedule leaves the client's calls alone.
    """
    schedule = next((one for one in cell.schedules if one.hop == "agent" and one.rules), None)
    channels: dict[str, grpc.aio.Channel] = {}
    async with AsyncExitStack() as stack:
        for arm in cell.arms if schedule is not None else ():
            if hosts is not None:
                striker = hosts.strikers(cell.comparison.arm(arm)).get("agent", NO_STRIKER)
                interceptors = await stack.enter_async_context(striking(striker.address, striker.role))
                for role, address in addresses[arm].items():
                    opening = open_channel(address, interceptors=interceptors)
                    channels[role] = await stack.enter_async_context(opening)
                continue
            logs[arm].parent.mkdir(parents=True, exist_ok=True)
            log = stack.enter_context(DeliveryLog(logs[arm]))
            for role, address in addresses[arm].items():
                lanes = open_lanes(
                    toxiproxy_address, hop="agent", upstream=address, schedule=schedule, deliveries=log
                )
                channels[role] = await stack.enter_async_context(lanes)
        yield channels

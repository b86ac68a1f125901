"""The role "host" over real processes: what it does to the services of its host, and what undoes it."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from chaos.deliveries import read_deliveries
from chaos.faults import Fault, FaultKind, Latency, ServiceKilled, ServicePaused
from matrices.spec.profiles import select_profiles
from matrices.topologies.cell_config import CellConfig
from matrices.topologies.processes import Child, start_child
from matrices.topologies.role_client import RoleClient
from matrices.topologies.role_command import TESTBED_MODULE
from matrices.topologies.roles import deliveries_path
from tests.limits import HANG_S
from treni.channels import open_channel
from treni.v1 import evidence_pb2, evidence_pb2_grpc, host_pb2, host_pb2_grpc

pytestmark = pytest.mark.slow

LONG_MS = 60_000
"""An outage that no test waits for."""


def config(role: str, *, tools: bool) -> CellConfig:
    (profile,) = select_profiles("n05")
    return CellConfig(
        cell="n05",
        role=role,
        arm="external" if tools else "",
        agent=None,
        faultable=(),
        model=False,
        tools=tools,
        caller="",
        profile=profile,
        cycle=None,
        seed=0,
        concurrency=1,
        starts={},
    )


@dataclass
class Cell:
    """A cell begun at a tool service and at the host that it is on."""

    folder: Path
    tools: RoleClient
    host: RoleClient
    child: Child
    stub: host_pb2_grpc.HostServiceAsyncStub

    async def strike(
        self, kind: FaultKind, *, number: int = 0, role: str = "tools", site: str = "host"
    ) -> None:
        fault = Fault(id=f"f{number}", site="hop" if site == "hop" else "host", hop="tool", kind=kind)
        request = host_pb2.StrikeRequest(fault=fault.encode(), run_id=f"n05/{number}/external/0", role=role)
        await self.stub.Strike(request, timeout=HANG_S)

    async def strikes(self) -> list[host_pb2.HostStrike]:
        return list((await self.stub.Strikes(host_pb2.StrikesRequest(), timeout=HANG_S)).strikes)

    async def until_back(self, count: int = 1) -> list[host_pb2.HostStrike]:
        async with asyncio.timeout(HANG_S):
            while True:
                strikes = await self.strikes()
                if sum(one.HasField("back_ago_s") for one in strikes) >= count:
                    return strikes
                await asyncio.sleep(0.02)

    async def answers(self, *, within_s: float) -> bool:
        """Whether the tool service says within that time that it serves."""
        async with open_channel(self.tools.service) as channel:
            try:
                await health_pb2_grpc.HealthStub(channel).Check(
                    health_pb2.HealthCheckRequest(), timeout=within_s, wait_for_ready=True
                )
            except grpc.aio.AioRpcError:
                return False
        return True

    def delivered(self) -> list[str]:
        return [row.fault_id for row in read_deliveries(deliveries_path(self.folder, "host0", ""))]


@asynccontextmanager
async def begun(folder: Path) -> AsyncIterator[Cell]:
    children = {
        role: await start_child(
            role,
            ["-m", TESTBED_MODULE, role, "--state", str(folder), "--parent-pid", str(os.getpid())],
            log_path=folder / f"{role}.log",
        )
        for role in ("host", "tools")
    }
    tools, host = (RoleClient(role, children[role.rstrip("0")].address) for role in ("tools", "host0"))
    try:
        await host.begin("s", "", config("host0", tools=False), continues=False)
        await tools.begin("s", "", config("tools", tools=True), continues=False)
        port = int(tools.service.rpartition(":")[2])
        again = config("tools", tools=True).model_copy(update={"port": port})
        async with open_channel(host.service) as channel:
            stub: host_pb2_grpc.HostServiceAsyncStub = host_pb2_grpc.HostServiceStub(channel)
            service = host_pb2.HostedService(
                role="tools",
                evidence_address=tools.address,
                service_address=tools.service,
                session="s",
                config_json=again.model_dump_json(),
            )
            await stub.Prepare(host_pb2.PrepareRequest(services=[service]))
            yield Cell(folder, tools, host, children["host"], stub)
    finally:
        await tools.close()
        await host.close()
        for child in (children["tools"], children["host"]):
            if child.death() is None:
                os.kill(child.pid, signal.SIGCONT)
            await child.stop()


async def test_a_paused_service_is_silent_and_goes_on_by_itself(tmp_path: Path) -> None:
    async with begun(tmp_path) as cell:
        assert await cell.answers(within_s=HANG_S)
        await cell.strike(ServicePaused(duration_ms=1000))
        assert cell.delivered() == ["f0"]
        (strike,) = await cell.until_back()
        assert strike.struck_ago_s - strike.healed_ago_s >= 1.0
        assert (list(strike.roles), strike.packets, dict(strike.back)) == (["tools"], 0, {})
        assert await cell.answers(within_s=HANG_S)


async def test_a_service_is_silent_while_it_is_paused_and_the_cells_end_heals_it(tmp_path: Path) -> None:
    async with begun(tmp_path) as cell:
        await cell.strike(ServicePaused(duration_ms=LONG_MS))
        assert not await cell.answers(within_s=0.5)
        await cell.host.end("s")
        assert await cell.answers(within_s=HANG_S)


async def test_a_host_whose_striker_is_killed_is_healed_all_the_same(tmp_path: Path) -> None:
    async with begun(tmp_path) as cell:
        await cell.strike(ServicePaused(duration_ms=LONG_MS))
        os.kill(cell.child.pid, signal.SIGKILL)
        assert await cell.answers(within_s=HANG_S)


async def test_a_killed_service_comes_back_with_its_cell_where_it_was(tmp_path: Path) -> None:
    async with begun(tmp_path) as cell:
        epoch, pid = cell.tools.epoch, cell.tools.pid
        await cell.strike(ServiceKilled(duration_ms=200))
        assert not Path(f"/proc/{pid}/cwd").exists()  # nothing, or a zombie
        (strike,) = await cell.until_back()
        back = strike.back["tools"]
        assert back.epoch != epoch
        assert back.pid != pid
        assert strike.healed_ago_s >= strike.back_ago_s
        async with open_channel(cell.tools.address) as channel:
            stub: evidence_pb2_grpc.EvidenceServiceAsyncStub = evidence_pb2_grpc.EvidenceServiceStub(channel)
            status = await stub.Status(evidence_pb2.StatusRequest(), timeout=HANG_S)
        assert (status.epoch, status.session) == (back.epoch, "s")
        assert await cell.answers(within_s=HANG_S)


async def test_one_fault_at_a_time_stands_on_a_host(tmp_path: Path) -> None:
    async with begun(tmp_path) as cell:
        await cell.strike(ServicePaused(duration_ms=600))
        await cell.strike(ServicePaused(duration_ms=1), number=1)
        first, second = await cell.until_back(2)
        assert first.healed_ago_s >= second.struck_ago_s
        assert cell.delivered() == ["f0", "f1"]


async def test_what_cannot_be_struck_is_refused_and_not_delivered(tmp_path: Path) -> None:
    async with begun(tmp_path) as cell:
        for kind, role, site in (
            (ServicePaused(duration_ms=1), "controller", "host"),
            (Latency(delay_ms=1), "tools", "hop"),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await cell.strike(kind, role=role, site=site)
            assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert cell.delivered() == []
        assert await cell.strikes() == []


async def test_a_process_that_is_no_service_is_never_struck(tmp_path: Path) -> None:
    """What a fault may signal is told by its command alone: an address in a file may be anybody's."""
    from matrices.topologies.struck_host import Command
    from treni.errors import TreniError

    with pytest.raises(TreniError) as raised:
        Command.of(os.getpid())
    assert raised.value.kind == "fault_not_here"
    with pytest.raises(TreniError):
        Command.of(2**22 - 1)

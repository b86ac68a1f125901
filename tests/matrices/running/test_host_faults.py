"""What a fault that breaks its host really does to one: the tool service in a process of its own, called over gRPC."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass
from pathlib import Path

import grpc
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from chaos.deliveries import read_deliveries
from chaos.faults import Crash, Fault, FaultKind, Hang, Hog, Leak
from chaos.faults.host import MAX_HOST_FAULT_MS
from matrices.spec.profiles import select_profiles
from matrices.topologies.cell_config import CellConfig
from matrices.topologies.processes import Child, start_child
from matrices.topologies.role_client import RoleClient
from matrices.topologies.role_command import TESTBED_MODULE
from matrices.topologies.roles import deliveries_path, ledger_path
from tests.limits import HANG_S, longer_and_longer
from tools_svc.ledger_append import read_effects
from treni import metadata
from treni.v1 import tools_pb2, tools_pb2_grpc


@dataclass
class Host:
    """The process, and how to call its ledger."""

    folder: Path
    child: Child
    role: RoleClient
    channel: grpc.aio.Channel

    def call(
        self, amount: int, kind: FaultKind | None = None, *, timeout_s: float = HANG_S
    ) -> grpc.aio.UnaryUnaryCall[tools_pb2.CallToolRequest, tools_pb2.CallToolResponse]:
        fault = None if kind is None else Fault(id=f"f:{amount}", site="tool", hop="tool", kind=kind)
        marks = () if fault is None else tuple(fault.to_metadata().items())
        return tools_pb2_grpc.ToolServiceStub(self.channel).Call(
            tools_pb2.CallToolRequest(
                name="ledger_append",
                arguments_json=json.dumps({"account": "books", "amount": amount}),
                run_id=f"r{amount}",
            ),
            timeout=timeout_s,
            metadata=((metadata.RUN_ID, f"r{amount}"), (metadata.ATTEMPT, "0"), *marks),
        )

    async def answers(self, timeout_s: float) -> bool:
        try:
            await health_pb2_grpc.HealthStub(self.channel).Check(
                health_pb2.HealthCheckRequest(), timeout=timeout_s
            )
        except grpc.aio.AioRpcError:
            return False
        return True

    @property
    def amounts(self) -> list[int]:
        return [row.amount for row in read_effects(ledger_path(self.folder, "tools"))]

    @property
    def delivered(self) -> list[str]:
        return [row.fault_id for row in read_deliveries(deliveries_path(self.folder, "tools", "external"))]

    def memory(self, field: str) -> int:
        """MiB by that field of /proc's status: VmRSS now, VmHWM at most ever."""
        status = Path(f"/proc/{self.child.pid}/status").read_text(encoding="utf-8")
        (line,) = [line for line in status.splitlines() if line.startswith(f"{field}:")]
        return int(line.split()[1]) // 1024


async def begin(role: RoleClient, port: int = 0) -> None:
    (profile,) = select_profiles("p00")
    config = CellConfig(
        cell="b",
        role="tools",
        arm="external",
        agent=None,
        faultable=(),
        model=False,
        tools=True,
        caller="external",
        profile=profile,
        cycle=None,
        seed=0,
        concurrency=1,
        starts={},
        port=port,
    )
    await role.begin("session", "", config, continues=port > 0)


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[Host]:
    arguments = ["-m", TESTBED_MODULE, "tools", "--state", str(tmp_path), "--parent-pid", str(os.getpid())]
    child = await start_child("tools", arguments, log_path=tmp_path / "log")
    role = RoleClient("tools", child.address)
    try:
        await begin(role)
        async with grpc.aio.insecure_channel(role.service, options=list(metadata.CHANNEL_OPTIONS)) as channel:
            yield Host(tmp_path, child, role, channel)
    finally:
        await role.close()
        await child.stop()


async def code_of(call: Awaitable[object]) -> str:
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error.code().name
    return "OK"


async def test_a_crash_ends_the_process_before_the_tool_runs_and_it_comes_back_where_it_was(
    host: Host,
) -> None:
    service, epoch = host.role.service, host.role.epoch
    await host.call(1)
    assert await code_of(host.call(2, Crash())) == "UNAVAILABLE"
    assert await host.child.process.wait() == -signal.SIGKILL
    assert (host.amounts, host.delivered) == ([1], ["f:2"])
    assert not await host.answers(HANG_S)
    host.child.arguments += ("--port", host.child.address.rsplit(":", 1)[1])
    await host.child.restart()
    await begin(host.role, int(service.rsplit(":", 1)[1]))
    assert host.role.service == service
    assert host.role.epoch != epoch
    while not await host.answers(HANG_S):  # the channel has to notice first
        pass
    await host.call(3)
    assert await code_of(host.call(4, Crash())) == "UNAVAILABLE"
    assert (host.amounts, host.delivered) == ([1, 3], ["f:2", "f:4"])


async def test_others_that_a_crash_finds_at_work_are_lost_with_it(host: Host) -> None:
    held = asyncio.ensure_future(code_of(host.call(1, Hog(duration_ms=MAX_HOST_FAULT_MS, memory_mb=1))))
    while not host.delivered:
        await host.answers(HANG_S)
    assert await code_of(host.call(2, Crash())) == "UNAVAILABLE"
    assert await held == "UNAVAILABLE"
    assert host.amounts == []


async def test_a_hang_stops_everything_and_then_the_tool_runs(host: Host) -> None:
    hanging = asyncio.ensure_future(code_of(host.call(1, Hang(duration_ms=3000))))
    lost = 0
    while not hanging.done():
        lost += not await host.answers(0.2)
    assert lost > 0
    assert (await hanging, host.amounts, host.child.death()) == ("OK", [1], None)
    assert await host.answers(HANG_S)


async def test_who_gave_up_during_a_hang_gets_no_tool(host: Host) -> None:
    await host.call(1)
    for timeout_s in longer_and_longer(1.0):
        hang = Hang(duration_ms=min(round(2000 * timeout_s), MAX_HOST_FAULT_MS))
        assert await code_of(host.call(2, hang, timeout_s=timeout_s)) == "DEADLINE_EXCEEDED"
        await host.call(3)  # behind the hang
        if host.delivered:
            break
    assert (set(host.amounts), set(host.delivered)) == ({1, 3}, {"f:2"})


async def test_a_hog_takes_memory_and_processor_and_gives_the_memory_back(host: Host) -> None:
    process = psutil.Process(host.child.pid)
    await host.call(1)
    rss_mb, used_s = host.memory("VmRSS"), process.cpu_times().user
    await host.call(2, Hog(duration_ms=1000, memory_mb=200))
    # What was there before may have become less meanwhile.
    assert host.memory("VmHWM") >= rss_mb + 180
    assert host.memory("VmRSS") < rss_mb + 100
    assert process.cpu_times().user > used_s
    assert host.amounts == [1, 2]


async def test_a_leak_stays(host: Host) -> None:
    await host.call(1)
    rss_mb = host.memory("VmRSS")
    for number in (1, 2, 3):
        await host.call(1 + number, Leak(size_mb=40))
        assert host.memory("VmRSS") >= rss_mb + 40 * number
    await host.call(9)
    assert host.memory("VmRSS") >= rss_mb + 120
    assert host.amounts == [1, 2, 3, 4, 9]

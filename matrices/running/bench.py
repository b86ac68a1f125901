"""What the routing itself costs, each figure beside its floor in the same run: medians and ratios, never verdicts."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from matrices.arms.arm import Arm, Comparison
from matrices.planning.plan import PlannedCell
from matrices.running.bench_campaign import bench_campaign
from matrices.running.client import AgentClient
from matrices.spec.suites import Task
from matrices.topologies.cell_services import CellServices
from matrices.topologies.echo import METHOD
from matrices.topologies.local import KEYS
from matrices.topologies.processes import start_child
from matrices.topologies.registry import topology
from tools_svc.registry import tool_specs
from treni.channels import open_channel
from treni.errors import Code, TreniError
from treni.fence import pairs
from treni.v1 import agent_pb2, common_pb2, inference_pb2, inference_pb2_grpc

ECHOES_PER_REQUEST = 5
_ECHO_PAYLOAD = b"x" * 256


@dataclass(kw_only=True)
class _Samples:
    """Seconds, one list for each thing timed; requests of one round are neighbours in time."""

    echo_s: list[float] = field(default_factory=list)
    compared_loop_s: list[float] = field(default_factory=list)
    compared_s: list[float] = field(default_factory=list)
    baseline_s: list[float] = field(default_factory=list)
    baseline_loop_s: list[float] = field(default_factory=list)
    generate_s: list[float] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """What one thing takes, in seconds at the median, and how many times its floor that is, where it has one."""

    what: str
    median_s: float
    floor: str = ""
    ratio: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Costs:
    """What routing costs, and the floors beside it, from so many requests of each kind."""

    requests: int
    rows: tuple[Cost, ...]


async def run(model_dir: str, requests: int, *, keys: bool = False) -> Costs:
    """What routing costs on this machine, measured now, the services behind a key with `keys`; the echo never is.

    Raises TreniError if a request fails.
    """
    placement = {KEYS: True} if keys else {}
    with tempfile.TemporaryDirectory(prefix="treni-bench-") as scratch:
        campaign = bench_campaign(Path(scratch), model_dir)
        cell = campaign.cells[-1]
        async with CellServices.open(
            topology(campaign.options.topology, placement), cell, campaign, counters={}
        ) as services:
            echo = await start_child(
                "echo",
                ["-m", "matrices.topologies.echo", str(os.getpid())],
                log_path=Path(scratch) / "echo.log",
            )
            try:
                samples = await _measure(cell, services, echo.address, requests)
            finally:
                await echo.stop()
    return _costs(samples, cell.comparison)


async def _measure(cell: PlannedCell, services: CellServices, echo_address: str, requests: int) -> _Samples:
    samples = _Samples()
    baseline, compared = cell.comparison
    plain = [planned.task for planned in cell.pairs if not planned.task.calls]
    clients = {
        arm: AgentClient(next(iter(services.agents(arm).values())), fence=services.fence) for arm in cell.arms
    }
    async with (
        open_channel(echo_address) as echo_channel,
        open_channel(services.addresses[baseline.model]) as runtime_channel,
    ):
        echo: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = echo_channel.unary_unary(METHOD)
        generate = inference_pb2_grpc.InferenceServiceStub(runtime_channel).Generate
        for number in range(-3, requests):  # the first three warm everything up and are not kept
            task = plain[number % len(plain)]
            round_ = _Samples()
            for _ in range(ECHOES_PER_REQUEST):
                started = time.perf_counter()
                await echo(_ECHO_PAYLOAD)
                round_.echo_s.append(time.perf_counter() - started)
            for arm in (baseline, compared) if number % 2 == 0 else (compared, baseline):
                latency_s, loop_s = await _one_run(clients[arm.name], arm, task, number)
                if arm is compared:
                    round_.compared_s.append(latency_s)
                    round_.compared_loop_s.append(loop_s)
                else:
                    round_.baseline_s.append(latency_s)
                    round_.baseline_loop_s.append(loop_s)
            started = time.perf_counter()
            async for _chunk in generate(_generation(task), metadata=pairs(services.fence)):
                pass
            round_.generate_s.append(time.perf_counter() - started)
            if number >= 0:
                for name, values in vars(round_).items():
                    getattr(samples, name).extend(values)
    for client in clients.values():
        await client.close()
    return samples


async def _one_run(client: AgentClient, arm: Arm, task: Task, number: int) -> tuple[float, float]:
    """The latency of a run and the loop's own share of it, in seconds."""
    request = agent_pb2.RunRequest(
        run_id=f"bench/{number}/{arm.name}", task_id=task.id, prompt=task.prompt, tools=task.tools
    )
    done = await client.run(request, timeout_s=60.0)
    if done.record is None or done.error is not None:
        raise done.error or TreniError(
            Code.INTERNAL, "bench_failed", expected="an answer", got="none", todo="see the service's log"
        )
    return done.latency_s, float(done.record["loop_s"])


def _generation(task: Task) -> inference_pb2.GenerateRequest:
    """The same prompt as the loop's first turn, asked of the model directly."""
    by_name = {spec.name: spec for spec in tool_specs()}
    return inference_pb2.GenerateRequest(
        messages=[common_pb2.Message(role="user", content=task.prompt)],
        tools=[by_name[name] for name in task.tools],
    )


def _costs(samples: _Samples, comparison: Comparison) -> Costs:
    baseline, compared = comparison
    median = {name: statistics.median(values) for name, values in vars(samples).items()}
    over_bare = _median_of_differences(samples.baseline_s, samples.generate_s)
    between = _median_of_differences(samples.compared_s, samples.baseline_s)
    echo, generation = ("echo", median["echo_s"]), ("generation", median["generate_s"])
    return Costs(
        requests=len(samples.compared_s),
        rows=(
            Cost(what="bare grpc.aio echo, 256 B", median_s=median["echo_s"]),
            _beside(echo, f"{compared.agent} overhead (not waiting on a hop)", median["compared_loop_s"]),
            _beside(echo, f"{baseline.name} loop overhead", median["baseline_loop_s"]),
            Cost(what="bare generation (Generate)", median_s=median["generate_s"]),
            _beside(generation, f"{baseline.name} route over bare generation", over_bare),
            _beside(generation, f"{compared.name} route over {baseline.name}", between),
        ),
    )


def _beside(floor: tuple[str, float], what: str, median_s: float) -> Cost:
    name, floor_s = floor
    return Cost(what=what, median_s=median_s, floor=name, ratio=median_s / floor_s)


def _median_of_differences(mine: list[float], others: list[float]) -> float:
    return statistics.median(a - b for a, b in zip(mine, others, strict=True))

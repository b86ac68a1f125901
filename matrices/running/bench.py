"""What the routing itself costs, each figure beside its floor in the same run: medians and ratios, never verdicts."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from matrices.evidence.campaign import MARGIN, Options, plan_campaign
from matrices.planning.plan import EXTERNAL, INTERNAL, PlannedCell
from matrices.running.client import AgentClient
from matrices.spec.profiles import select_profiles
from matrices.spec.suites import Task
from matrices.topologies.echo import METHOD
from matrices.topologies.local import LocalTopology
from matrices.topologies.processes import start_child
from tools_svc.registry import tool_specs
from treni.channels import open_channel
from treni.errors import Code, TreniError
from treni.v1 import agent_pb2, common_pb2, inference_pb2, inference_pb2_grpc

ECHOES_PER_REQUEST = 5
_ECHO_PAYLOAD = b"x" * 256


@dataclass(kw_only=True)
class _Samples:
    """Seconds, one list for each thing timed; requests of one round are neighbours in time."""

    echo_s: list[float] = field(default_factory=list)
    controller_s: list[float] = field(default_factory=list)
    external_s: list[float] = field(default_factory=list)
    internal_s: list[float] = field(default_factory=list)
    internal_loop_s: list[float] = field(default_factory=list)
    generate_s: list[float] = field(default_factory=list)


async def run(model_dir: str, requests: int) -> str:
    """The table of the routing's own cost, as text. Raises TreniError if a request fails."""
    with tempfile.TemporaryDirectory(prefix="treni-bench-") as scratch:
        options = Options(
            suite="core",
            runs=12,
            seed=0,
            concurrency=1,
            topology="local",
            backend="numpy",
            model_dir=model_dir,
            idempotency=True,
            margin=MARGIN,
            restarts=1,
            toxiproxy=None,
        )
        campaign = plan_campaign(Path(scratch), options, select_profiles("p00"))
        cell = campaign.cells[-1]
        async with LocalTopology.start(cell, campaign, {}) as topology:
            echo = await start_child(
                "echo",
                ["-m", "matrices.topologies.echo", str(os.getpid())],
                log_path=Path(scratch) / "echo.log",
            )
            try:
                samples = await _measure(cell, topology, echo.address, requests)
            finally:
                await echo.stop()
    return _routing_table(samples)


async def _measure(cell: PlannedCell, topology: LocalTopology, echo_address: str, requests: int) -> _Samples:
    samples = _Samples()
    plain = [planned.task for planned in cell.pairs if not planned.task.expect.calls]
    clients = {arm: AgentClient(topology.address(arm)) for arm in (INTERNAL, EXTERNAL)}
    async with (
        open_channel(echo_address) as echo_channel,
        open_channel(topology.address(INTERNAL)) as runtime_channel,
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
            for arm in (INTERNAL, EXTERNAL) if number % 2 == 0 else (EXTERNAL, INTERNAL):
                await _one_run(clients[arm], arm, task, number, round_)
            started = time.perf_counter()
            async for _chunk in generate(_generation(task)):
                pass
            round_.generate_s.append(time.perf_counter() - started)
            if number >= 0:
                for name, values in vars(round_).items():
                    getattr(samples, name).extend(values)
    for client in clients.values():
        await client.close()
    return samples


async def _one_run(client: AgentClient, arm: str, task: Task, number: int, samples: _Samples) -> None:
    request = agent_pb2.RunRequest(
        run_id=f"bench/{number}/{arm}", task_id=task.id, prompt=task.prompt, tools=task.tools
    )
    done = await client.run(request, timeout_s=60.0)
    if done.record is None or done.error is not None:
        raise done.error or TreniError(
            Code.INTERNAL, "bench_failed", expected="an answer", got="none", todo="see the service's log"
        )
    if arm == EXTERNAL:
        samples.external_s.append(done.latency_s)
        samples.controller_s.append(float(done.record["loop_s"]))
    else:
        samples.internal_s.append(done.latency_s)
        samples.internal_loop_s.append(float(done.record["loop_s"]))


def _generation(task: Task) -> inference_pb2.GenerateRequest:
    """The same prompt as the loop's first turn, asked of the model directly."""
    by_name = {spec.name: spec for spec in tool_specs()}
    return inference_pb2.GenerateRequest(
        messages=[common_pb2.Message(role="user", content=task.prompt)],
        tools=[by_name[name] for name in task.tools],
    )


def _routing_table(samples: _Samples) -> str:
    median = {name: statistics.median(values) for name, values in vars(samples).items()}
    over_bare = _median_of_differences(samples.internal_s, samples.generate_s)
    between = _median_of_differences(samples.external_s, samples.internal_s)
    rows = [
        ("bare grpc.aio echo, 256 B", median["echo_s"], ""),
        ("controller overhead (not waiting on a hop)", median["controller_s"], "echo_s"),
        ("internal loop overhead", median["internal_loop_s"], "echo_s"),
        ("bare generation (Generate)", median["generate_s"], ""),
        ("internal route over bare generation", over_bare, "generate_s"),
        ("external route over internal", between, "generate_s"),
    ]
    names = {"echo_s": "echoes", "generate_s": "of a generation"}
    lines = [f"{len(samples.external_s)} requests of each kind, interleaved; medians"]
    for label, value_s, floor in rows:
        ratio = f"  = {value_s / median[floor]:.3f} {names[floor]}" if floor else ""
        lines.append(f"{label:46}{value_s * 1e3:9.3f} ms{ratio}")
    return "\n".join(lines) + "\n"


def _median_of_differences(mine: list[float], others: list[float]) -> float:
    return statistics.median(a - b for a, b in zip(mine, others, strict=True))

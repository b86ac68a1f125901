"""What keeping traces costs a request: testbeds with and without them up at once, asked in turn."""

from __future__ import annotations

import socket
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from matrices.running.bench_scale import RUN_TIMEOUT_S, Up, services_up
from matrices.running.client import AgentClients, request_of
from matrices.spec.suites import Task
from treni import tracing
from treni.errors import Code, TreniError
from treni.trace_options import traced

WARM_UP = 3
"""Rounds that are not kept."""

OFF, AGAIN, FILE, NOWHERE = "off", "off, another testbed", "to files", "to an endpoint that is not there"
"""The ways in which the testbeds keep traces. The second is the noise floor of the others."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """An arm under one way: its median latency, and its ratio to the neighbour that is off, the middle half too.

    `cpu_s` is what the services' processes took for a request, on the mean.
    """

    arm: str
    way: str
    median_s: float
    ratio: float
    ratio_range: tuple[float, float]
    cpu_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class TracesCost:
    """The table, from so many requests of each arm under each way."""

    requests: int
    rows: tuple[Row, ...]


async def run(model_dir: str, requests: int) -> TracesCost:
    """The table as this machine makes it now. Raises TreniError if a request fails, or without OpenTelemetry."""
    async with AsyncExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="treni-traces-")))
        endpoint = stack.enter_context(_nobody())
        up: dict[str, Up] = {}
        tracers: dict[str, tracing.Tracer | None] = {}
        # Those that are off first: what is said of traces is said to every process that is started from then on.
        for number, (way, path, where) in enumerate(
            ((OFF, None, ""), (AGAIN, None, ""), (FILE, scratch / "traces", ""), (NOWHERE, None, endpoint))
        ):
            stack.enter_context(traced("client", path=path, endpoint=where))
            up[way] = await stack.enter_async_context(services_up(scratch / str(number), model_dir))
            tracers[way] = tracing.tracer()
        arms = next(iter(up.values())).cell.arms
        tasks = [planned.task for planned in next(iter(up.values())).cell.pairs]
        latencies: dict[tuple[str, str], list[float]] = {(arm, way): [] for arm in arms for way in up}
        spent = dict.fromkeys(latencies, 0.0)
        for round_ in range(-WARM_UP, requests):
            for arm in arms:
                for way in _turned(list(up), round_):
                    before_s = _cpu_s(up[way])
                    task = tasks[round_ % len(tasks)]
                    latency_s = await _one(up[way].clients[arm], tracers[way], arm, task, round_)
                    if round_ >= 0:
                        latencies[arm, way].append(latency_s)
                        spent[arm, way] += _cpu_s(up[way]) - before_s
        rows = [
            _row(arm, way, latencies[arm, way], latencies[arm, OFF], spent[arm, way])
            for arm in arms
            for way in up
        ]
        return TracesCost(requests=requests, rows=tuple(rows))


@contextmanager
def _nobody() -> Iterator[str]:
    """The URL of a port of this machine that refuses everybody."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


def _cpu_s(up: Up) -> float:
    """What the processes have taken of the processors so far."""
    times = [psutil.Process(pid).cpu_times() for pid in up.pids.values()]
    return sum(one.user + one.system for one in times)


async def _one(
    clients: AgentClients, tracer: tracing.Tracer | None, arm: str, task: Task, number: int
) -> float:
    """The latency of a request."""
    request = request_of(task, run_id=f"bench/{number}/{arm}", request_index=max(0, number))
    tracing.use(tracer)
    try:
        done = await clients.run(request, timeout_s=RUN_TIMEOUT_S)
    finally:
        tracing.use(None)
    if done.error is not None or done.record is None:
        raise done.error or TreniError(
            Code.INTERNAL, "bench_failed", expected="an answer", got="none", todo="see the service's log"
        )
    return done.latency_s


def _turned(ways: Sequence[str], by: int) -> list[str]:
    """The ways, each time begun at another one and turned round every other time."""
    turned = [*ways[by % len(ways) :], *ways[: by % len(ways)]]
    return turned if by // len(ways) % 2 == 0 else turned[::-1]


def _row(arm: str, way: str, latencies_s: Sequence[float], off_s: Sequence[float], cpu_s: float) -> Row:
    ratios = [mine / off for mine, off in zip(latencies_s, off_s, strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return Row(
        arm=arm,
        way=way,
        median_s=statistics.median(latencies_s),
        ratio=middle,
        ratio_range=(low, high),
        cpu_s=cpu_s / len(latencies_s),
    )

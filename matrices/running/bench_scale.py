"""How throughput and the arms' ratio move with the number of controllers: all numbers up at once, round by round."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from matrices.arms.arm import Comparison
from matrices.arms.parts import Replicas
from matrices.planning.plan import PlannedCell
from matrices.running.bench_campaign import bench_campaign
from matrices.running.client import AgentClient, AgentClients, request_of
from matrices.spec.suites import Task
from matrices.topologies.cell_services import CellServices
from matrices.topologies.registry import topology
from treni.errors import Code, TreniError

T = TypeVar("T")

RUN_TIMEOUT_S = 600.0
"""The limit of one request, for one that hangs: with many in flight on a busy machine each takes seconds."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """What so many controllers did: medians over the rounds, and of the throughputs the least and the most.

    `ratio` is that of the mean latencies, compared over baseline, in one round.
    """

    controllers: int
    compared_per_s: float
    compared_per_s_range: tuple[float, float]
    baseline_per_s: float
    baseline_per_s_range: tuple[float, float]
    ratio: float
    ratio_range: tuple[float, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Scale:
    """The table: a row for each number of controllers, all from the same rounds of `requests` for each arm."""

    baseline: str
    compared: str
    concurrency: int
    requests: int
    rounds: int
    rows: tuple[Row, ...]


@dataclass(kw_only=True)
class _Samples:
    """Of one number of controllers: per round each arm's throughput and mean latency."""

    per_s: dict[str, list[float]] = field(default_factory=dict)
    mean_s: dict[str, list[float]] = field(default_factory=dict)

    def add(self, arm: str, latencies_s: Sequence[float], took_s: float) -> None:
        """Takes a round's requests, which took so long together."""
        self.per_s.setdefault(arm, []).append(len(latencies_s) / took_s)
        self.mean_s.setdefault(arm, []).append(statistics.mean(latencies_s))


async def run(
    model_dir: str, controllers: Sequence[int], *, concurrency: int, requests: int, rounds: int
) -> Scale:
    """The table as this machine makes it now. Raises TreniError if a request fails."""
    async with AsyncExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="treni-scale-")))
        up = {
            count: await stack.enter_async_context(
                services_up(scratch / str(count), model_dir, count, concurrency)
            )
            for count in controllers
        }
        cell = next(iter(up.values())).cell
        samples = {count: _Samples() for count in controllers}
        for round_ in range(-1, rounds):  # the first one warms everything up and is not kept
            # Who goes first changes from round to round, among the numbers and between the arms.
            for count in _turned(controllers, round_):
                for arm in _turned(cell.arms, round_):
                    clients = up[count].clients[arm]
                    tasks = [planned.task for planned in cell.pairs]
                    began_s = time.perf_counter()
                    latencies_s = await _closed_loop(clients, arm, tasks, round_, concurrency, requests)
                    if round_ >= 0:
                        samples[count].add(arm, latencies_s, time.perf_counter() - began_s)
        rows = tuple(_row(count, samples[count], cell.comparison) for count in controllers)
        return Scale(
            baseline=cell.comparison.baseline.name,
            compared=cell.comparison.compared.name,
            concurrency=concurrency,
            requests=requests,
            rounds=rounds,
            rows=rows,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Up:
    """The services of a cell that are up: each arm's clients, and the ids of the processes by role."""

    cell: PlannedCell
    clients: dict[str, AgentClients]
    pids: Mapping[str, int]


@asynccontextmanager
async def services_up(
    folder: Path, model_dir: str, controllers: int = 1, concurrency: int = 1
) -> AsyncIterator[Up]:
    """The services of p00 with so many controllers, and their clients, until the block is left."""
    several = Replicas(controllers=controllers)
    campaign = bench_campaign(folder, model_dir, concurrency=concurrency, replicas=several)
    cell = campaign.cells[-1]
    async with CellServices.open(
        topology(campaign.options.topology, {}), cell, campaign, counters={}
    ) as services:
        clients = {
            arm: AgentClients(
                [AgentClient(address, fence=services.fence) for address in services.agents(arm).values()]
            )
            for arm in cell.arms
        }
        try:
            yield Up(cell=cell, clients=clients, pids=services.pids)
        finally:
            for of_arm in clients.values():
                await of_arm.close()


async def _closed_loop(
    clients: AgentClients, arm: str, tasks: Sequence[Task], round_: int, concurrency: int, requests: int
) -> list[float]:
    """The latencies of so many requests, `concurrency` of them in flight, in the order in which they ended."""
    numbers = iter(range(requests))
    latencies_s: list[float] = []

    async def one_after_another() -> None:
        for number in numbers:
            task = tasks[number % len(tasks)]
            request = request_of(task, run_id=f"scale/{round_}/{number}/{arm}", request_index=number)
            done = await clients.run(request, timeout_s=RUN_TIMEOUT_S)
            if done.error is not None or done.record is None:
                raise done.error or TreniError(
                    Code.INTERNAL,
                    "bench_failed",
                    expected="an answer",
                    got="none",
                    todo="see the service's log",
                )
            latencies_s.append(done.latency_s)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(concurrency):
                group.create_task(one_after_another())
    except* TreniError as failed:
        raise next(one for one in failed.exceptions if isinstance(one, TreniError)) from None
    return latencies_s


def _turned(values: Sequence[T], by: int) -> list[T]:
    """The values, begun at another one."""
    start = by % len(values)
    return [*values[start:], *values[:start]]


def _row(controllers: int, samples: _Samples, comparison: Comparison) -> Row:
    baseline, compared = comparison.names
    ratios = [
        slow / fast for slow, fast in zip(samples.mean_s[compared], samples.mean_s[baseline], strict=True)
    ]
    return Row(
        controllers=controllers,
        compared_per_s=statistics.median(samples.per_s[compared]),
        compared_per_s_range=(min(samples.per_s[compared]), max(samples.per_s[compared])),
        baseline_per_s=statistics.median(samples.per_s[baseline]),
        baseline_per_s_range=(min(samples.per_s[baseline]), max(samples.per_s[baseline])),
        ratio=statistics.median(ratios),
        ratio_range=(min(ratios), max(ratios)),
    )

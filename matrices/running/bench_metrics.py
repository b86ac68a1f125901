"""What metrics cost the arms: services without them, others without, and those with them scraped, in turn."""

from __future__ import annotations

import asyncio
import random
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from matrices.planning.plan import PlannedCell
from matrices.running.bench_campaign import bench_campaign
from matrices.running.client import AgentClients, request_of
from matrices.running.workers import clients_of
from matrices.topologies.cell_services import CellServices
from matrices.topologies.registry import topology
from treni import metrics, metrics_page
from treni.channels import open_http
from treni.errors import Code, TreniError

SCRAPE_S = 1.0
"""How often each service with metrics is scraped: five times as often as Prometheus is usually told to."""

WARM_UPS = 3
RESAMPLES = 2000
CONFIDENCE = 0.95
TIMEOUT_S = 60.0

OFF, AGAIN, ON = "off", "off, again", "on"
KINDS = (OFF, AGAIN, ON)
"""Services without metrics, others without, and those with them."""

Latencies = dict[tuple[str, str], list[float]]
"""Seconds by arm and kind of services, in rounds: what has the same number was measured one after the other."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Moved:
    """An arm, and by how much its median latency moved: the median over rounds of a ratio, with its interval."""

    arm: str
    median_s: float
    floor: float
    floor_interval: tuple[float, float]
    moved: float
    moved_interval: tuple[float, float]

    @property
    def within_floor(self) -> bool:
        """Whether it moved by less than two lots of the same services differ: the A/A floor."""
        low, high = self.floor_interval
        return abs(self.moved - 1) < max(abs(low - 1), abs(high - 1))


@dataclass(frozen=True, kw_only=True, slots=True)
class MetricsCost:
    """What metrics cost, from so many rounds of a request of every arm to services of every kind."""

    rounds: int
    scrapes: int
    rows: tuple[Moved, ...]


async def run(model_dir: str, rounds: int) -> MetricsCost:
    """What metrics cost on this machine, measured now. Raises `TreniError` if a request fails."""
    with tempfile.TemporaryDirectory(prefix="treni-bench-") as scratch:
        found: Latencies = {}
        async with AsyncExitStack() as stack:
            cell, clients, scraper = await _opened(Path(scratch), model_dir, stack)
            tasks = [pair.task for pair in cell.pairs if pair.task.quiet]
            for number in range(-WARM_UPS, rounds):
                turns = [(arm, kind) for arm in cell.arms for kind in KINDS]
                random.Random(number).shuffle(turns)
                for arm, kind in turns:
                    task = tasks[number % len(tasks)]
                    request = request_of(task, run_id=f"bench/{number}/{arm}", request_index=max(number, 0))
                    done = await clients[kind][arm].run(request, timeout_s=TIMEOUT_S)
                    if done.error is not None:
                        raise done.error
                    if number >= 0:
                        found.setdefault((arm, kind), []).append(done.latency_s)
    rows = tuple(_moved(arm, found) for arm in cell.arms)
    return MetricsCost(rounds=rounds, scrapes=scraper.done, rows=rows)


class _Scraper:
    """Reads pages as Prometheus would."""

    def __init__(self) -> None:
        self.done = 0

    async def go_on(self, client: httpx.AsyncClient, urls: Sequence[str]) -> None:
        """Reads every page, again and again, until it is cancelled."""
        while True:
            before_s = time.perf_counter()
            for url in urls:
                (await client.get(url)).raise_for_status()
                self.done += 1
            await asyncio.sleep(max(0.0, SCRAPE_S - (time.perf_counter() - before_s)))


async def _opened(
    scratch: Path, model_dir: str, stack: AsyncExitStack
) -> tuple[PlannedCell, dict[str, Mapping[str, AgentClients]], _Scraper]:
    """The cell begun at services of every kind at once, clients of each, and whoever scrapes those with metrics."""
    clients: dict[str, Mapping[str, AgentClients]] = {}
    stack.callback(metrics.switch_off)
    for kind in KINDS:
        if kind == ON:
            metrics.switch_on()
        folder = scratch / str(KINDS.index(kind))
        folder.mkdir()
        targets = metrics_page.list_targets(scratch / "targets.json")
        cell, clients[kind] = await stack.enter_async_context(_services(folder, model_dir))
    urls = targets.urls
    if not urls:
        raise TreniError(
            Code.INTERNAL, "bench_failed", expected="services with metrics", got="none", todo="report it"
        )
    scraper, client = _Scraper(), await stack.enter_async_context(open_http())
    scraping = asyncio.create_task(scraper.go_on(client, urls))
    stack.callback(scraping.cancel)
    return cell, clients, scraper


@asynccontextmanager
async def _services(
    folder: Path, model_dir: str
) -> AsyncIterator[tuple[PlannedCell, Mapping[str, AgentClients]]]:
    campaign = bench_campaign(folder, model_dir)
    cell = campaign.cells[-1]
    place = topology(campaign.options.topology, campaign.options.placement)
    async with CellServices.open(place, cell, campaign, counters={}) as services:
        clients = {arm: clients_of(services.agents(arm), {}, services.fence, ()) for arm in cell.arms}
        try:
            yield cell, clients
        finally:
            for one in clients.values():
                await one.close()


def _moved(arm: str, found: Latencies) -> Moved:
    off, again, on = (found[arm, kind] for kind in KINDS)
    # Both beside the same one lot: latencies are skewed, and the mean of two lots lies above the median of one.
    floor, floor_interval = _ratio(again, off)
    moved, moved_interval = _ratio(on, off)
    return Moved(
        arm=arm,
        median_s=statistics.median(off),
        floor=floor,
        floor_interval=floor_interval,
        moved=moved,
        moved_interval=moved_interval,
    )


def _ratio(mine: Sequence[float], others: Sequence[float]) -> tuple[float, tuple[float, float]]:
    """The median of the rounds' ratios, and its interval by the bootstrap over rounds."""
    ratios = [one / other for one, other in zip(mine, others, strict=True)]
    rng = random.Random(0)
    medians = sorted(statistics.median(rng.choices(ratios, k=len(ratios))) for _ in range(RESAMPLES))
    cut = int((1 - CONFIDENCE) / 2 * RESAMPLES)
    return statistics.median(ratios), (medians[cut], medians[-cut - 1])

"""Runs a campaign: cell by cell, block by block, pair by pair, each step written to the history as it happens."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Literal, Protocol

from chaos.schedule import WARMUP_REQUEST
from matrices.evidence import events as ev
from matrices.evidence.begun_with import model_of, refuse_other_model
from matrices.evidence.campaign import Campaign, write_campaign
from matrices.evidence.history import CellState, HistoryWriter, read_history, state_of
from matrices.evidence.manifest import ManifestModel
from matrices.evidence.outside import EndpointTold
from matrices.evidence.resolution import resolve
from matrices.evidence.runs import pair_runs
from matrices.planning.plan import PlannedCell, PlannedPair
from matrices.running.client import request_of
from matrices.running.conditions import ConditionsProbe
from matrices.running.host_watch import HostWatch
from matrices.running.metrics import HarnessMetrics
from matrices.running.outcomes import outcome_of, refuse_unrecorded
from matrices.running.segment import CellBroken, Segment, cause_of
from matrices.running.workers import clients_of, workers
from matrices.topologies.cell_evidence import Evidence
from matrices.topologies.cell_services import CellServices
from matrices.topologies.registry import topology
from treni import metrics


class Progress(Protocol):
    """Where the runner says how far it is."""

    def cell(self, name: str, pairs: int, done: int) -> None:
        """A cell begins, `done` of its pairs complete already."""

    def pair(self, name: str) -> None:
        """A pair of the cell is complete."""

    def event(self, event: ev.Event) -> None:
        """An event was written; requests may be in flight, so that this must take no time."""

    def idle(self) -> None:
        """No request is in flight: what takes time may be done now."""


class Runner:
    """Runs what of a campaign is not done yet.

    `epoch` counts the harness's starts on this campaign, so that no two executions share a run id. `broken` says of
    each cell that lost a service how: the campaign is not over until a resumption has run them again. `model` is what
    the services must serve, None for a new campaign, which goes on with what its first cell finds. `told` is what an
    endpoint tells of its model.
    """

    def __init__(
        self,
        campaign: Campaign,
        progress: Progress,
        model: ManifestModel | None = None,
        told: EndpointTold | None = None,
    ) -> None:
        self.broken: dict[str, str] = {}
        self._campaign = campaign
        self._progress = progress
        self._model = model
        self._topology = topology(campaign.options.topology, campaign.options.placement)
        self._expected = {expectation.cell: expectation for expectation in campaign.expectations}
        self._states: dict[str, CellState] = {}
        self._writer: HistoryWriter | None = None
        self._told = told
        self._counts = metrics.of(HarnessMetrics)
        if self._counts is not None:
            self._counts.begin(campaign)

    async def run(self) -> None:
        """Runs a new campaign from the start. Raises TreniError if its folder has a history already."""
        self._campaign.folder.mkdir(parents=True, exist_ok=True)
        await self._run_cells(epoch=0)

    async def resume(self) -> None:
        """Goes on with an interrupted campaign: complete pairs stay, begun ones are abandoned and run again."""
        if read_history(self._campaign.history_path).sealed:
            return
        self._writer, events = HistoryWriter.resume(self._campaign.history_path, wall_time=_wall_time())
        self._states = state_of(events)
        for event in events:
            self._progress.event(event)
        if self._counts is not None:
            self._counts.begin(self._campaign, events)
        for state in self._states.values():
            if state.ended is not None and state.ended.status == "broken":
                self._append(ev.Discard(cell=state.cell, why=state.ended.detail))
            for pair, begun in list(state.begun.items()):
                run_ids = tuple(invoke.run_id for invoke in begun.invokes.values())
                self._append(ev.Abandon(cell=state.cell, pair=pair, run_ids=run_ids))
        await self._run_cells(epoch=sum(isinstance(event, ev.Resumed) for event in events))

    async def _run_cells(self, *, epoch: int) -> None:
        pacing = None if self._counts is None else asyncio.create_task(self._counts.pace())
        try:
            for plan in self._campaign.cells:
                state = self._states.setdefault(plan.name, CellState(cell=plan.name))
                self._progress.cell(plan.name, len(plan.pairs), len(state.completed))
                if state.ended is None:
                    await self._run_cell(plan, state, epoch)
            if not self.broken:
                self._append(ev.Sealed())
        finally:
            if pacing is not None:
                pacing.cancel()
            if self._writer is not None:
                self._writer.close()
                self._writer = None

    def _append(self, event: ev.Event) -> None:
        assert self._writer is not None
        self._writer.append(event)
        self._progress.event(event)
        self._count(event)
        if not isinstance(event, ev.Opened | ev.Resumed | ev.Sealed):
            self._states[event.cell].fold(event)

    def _count(self, event: ev.Event) -> None:
        if self._counts is not None:
            self._counts.fold(event)

    async def _run_cell(self, plan: PlannedCell, state: CellState, epoch: int) -> None:
        todo = [planned for planned in plan.pairs if planned.pair not in state.completed]
        # Also with nothing left to do: an interruption before the cell's end has yet to be followed by one.
        segments = sorted({planned.segment for planned in todo}) or [plan.pairs[-1].segment]
        try:
            for number in segments:
                evidence = await self._run_segment(plan, state, number, epoch)
        except CellBroken as broken:
            self.broken[plan.name] = str(broken)
            self._append(ev.CellEnded(cell=plan.name, status="broken", detail=str(broken)))
        else:
            self._end_cell(plan, evidence)

    async def _run_segment(self, plan: PlannedCell, state: CellState, number: int, epoch: int) -> Evidence:
        """Runs the segment; what the services hold when it is over. Raises `CellBroken`."""
        expected = resolve(self._expected[plan.name], pair_runs(state))
        counters = expected.counts(state.completed)
        if plan.profile.faults.by == "attempt":
            # What was made counts, should it not be what was planned. By request nothing depends on it, and a run
            # whose record is lost to its fault tells nothing.
            counters = {
                counter.key: counter.first + state.attempts(arm=counter.arm, hop=counter.hop)
                for counter in plan.counters
            }
        async with (
            CellServices.open(
                self._topology,
                plan,
                self._campaign,
                counters=counters,
                take=len(state.discards),
                continues=bool(state.completed),
            ) as services,
            services.lanes() as lanes,
            workers(self._campaign.options.workers) as helping,
        ):
            if self._model is not None and services.info.model:
                refuse_other_model(self._model, services.info)
            if self._writer is None:
                opened = write_campaign(
                    self._campaign,
                    services.info,
                    toxiproxy=services.toxiproxy_version,
                    hosts=services.hosts,
                    told=self._told,
                )
                self._writer = HistoryWriter.create(self._campaign.history_path, opened)
                self._count(opened)
            if services.info.model:
                self._model = self._model or model_of(services.info)
            clients = {
                arm: clients_of(services.agents(arm), lanes, services.fence, helping) for arm in plan.arms
            }
            segment = Segment(
                plan=plan,
                number=number,
                services=services,
                clients=clients,
                epoch=epoch,
                worker_pids=tuple(worker.pid for worker in helping),
            )
            self._append(
                ev.CellStarted(
                    cell=plan.name,
                    profile=plan.profile.name,
                    arms=plan.arms,
                    epoch=epoch,
                    segment=number,
                    start_counter=counters,
                    pids=services.pids,
                    epochs=services.epochs,
                    clocks=await services.clocks(),
                )
            )
            try:
                await self._warm_up(segment)
                async with self._watched(segment):
                    await self._run_blocks(segment, state)
                await segment.look()
                return await segment.evidence()
            except BaseExceptionGroup as failed:
                raise cause_of(failed) from failed
            finally:
                for client in clients.values():
                    await client.close()

    @asynccontextmanager
    async def _watched(self, segment: Segment) -> AsyncIterator[None]:
        """Where faults break processes: watches them, brings back the dead, and holds new requests until then."""
        if segment.services.host_agents is not None:
            segment.services.host_agents.told = self._append
        if not segment.plan.breaks_hosts:
            yield
            return

        async def warm_up() -> bool:
            return await self._warm_up(segment)

        async with HostWatch.over(
            segment.services,
            cell=segment.plan.name,
            comparison=segment.plan.comparison,
            append=self._append,
            warm_up=warm_up,
        ) as segment.watch:
            yield

    async def _warm_up(self, segment: Segment) -> bool:
        """A task without a tool, and one with for each tool service, on each agent: neither faulted nor counted.

        Whether all were answered.
        """
        answered = True
        tasks = [pair.task for pair in segment.plan.pairs if pair.task.quiet]
        plain = next((task for task in tasks if task.told and not task.calls), None)
        calling = next((task for task in tasks if task.calls or not task.told), None)
        wanted = [
            task for task in (plain, *[calling] * segment.plan.replicas.tool_services) if task is not None
        ]
        for arm, clients in segment.clients.items():
            for number, (client, task) in enumerate(itertools.product(clients.every, wanted)):
                run_id = f"{segment.plan.name}/warmup/{arm}/{segment.epoch}-{segment.number}-{number}"
                request = request_of(task, run_id=run_id, request_index=WARMUP_REQUEST)
                done = await client.run(request, timeout_s=segment.plan.profile.policy.run_timeout)
                answered &= done.error is None
        return answered

    async def _run_blocks(self, segment: Segment, state: CellState) -> None:
        probe = ConditionsProbe((*segment.services.own_pids, *segment.worker_pids))
        concurrency = self._campaign.options.concurrency
        slots = asyncio.Semaphore(concurrency)
        todo = [
            planned
            for planned in segment.plan.pairs
            if planned.segment == segment.number and planned.pair not in state.completed
        ]
        for batch in _batches(todo, concurrency):
            blocks = dict.fromkeys(planned.block for planned in batch)
            await self._mark(segment, blocks, "start", probe)
            async with asyncio.TaskGroup() as group:
                for planned in batch:
                    await slots.acquire()
                    task = group.create_task(self._run_pair(segment, planned))
                    task.add_done_callback(lambda _: slots.release())
            await self._mark(segment, blocks, "end", probe)
            self._progress.idle()

    async def _mark(
        self, segment: Segment, blocks: Iterable[int], phase: Literal["start", "end"], probe: ConditionsProbe
    ) -> None:
        readings = await segment.services.readings()
        segment.check()
        conditions, mono_s = probe.conditions(readings), time.monotonic()
        if segment.plan.breaks_hosts:
            conditions["rss_mb"] = {
                role: round(one.status.rss_bytes / 2**20, 1) for role, one in readings.items()
            }
        for block in blocks:
            self._append(
                ev.Block(
                    cell=segment.plan.name, block=block, phase=phase, mono_s=mono_s, conditions=conditions
                )
            )

    async def _run_pair(self, segment: Segment, planned: PlannedPair) -> None:
        name = segment.plan.name
        self._append(self._started(segment.plan, planned))
        for arm in planned.order:
            run_id = f"{name}/{planned.pair}/{arm}/{segment.epoch}"
            request = request_of(planned.task, run_id=run_id, request_index=planned.pair)
            request.sampling.seed = self._campaign.options.seed
            request.no_idempotency = not segment.plan.idempotency
            request.constrain_calls = self._campaign.options.constrain_calls
            marks = segment.marks(arm, planned.pair, run_id)
            await segment.hold()
            self._append(
                ev.Invoke(
                    cell=name,
                    pair=planned.pair,
                    arm=arm,
                    run_id=run_id,
                    request_index=planned.pair,
                    wall_time=_wall_time(),
                    mono_s=time.monotonic(),
                )
            )
            done = await segment.invoke(arm, request, marks)
            refuse_unrecorded(done)
            self._append(outcome_of(segment, planned, arm, run_id, done))
            segment.check()
        # What hurt the pair is in the history before the pair counts, also if the harness is killed in between.
        await segment.hold()
        self._append(ev.PairCompleted(cell=name, pair=planned.pair))
        self._progress.pair(name)
        if self._campaign.options.concurrency == 1:
            self._progress.idle()

    def _started(self, plan: PlannedCell, planned: PlannedPair) -> ev.PairStarted:
        expected = self._expected[plan.name].pairs[planned.pair]
        return ev.PairStarted(
            cell=plan.name,
            pair=planned.pair,
            block=planned.block,
            task_id=planned.task.id,
            family=planned.task.family,
            order=planned.order,
            stratum=expected.stratum,
            planned_faults={arm: tuple(f.id for f in run.faults) for arm, run in expected.runs.items()},
            expected_calls=planned.task.expected_calls,
            side_effects=planned.task.side_effects,
        )

    def _end_cell(self, plan: PlannedCell, evidence: Evidence) -> None:
        """After the services have ended, so that nothing more can be delivered or take effect."""
        for arm in plan.arms:
            self._append(ev.Deliveries(cell=plan.name, arm=arm, faults=evidence.deliveries[arm]))
            self._append(ev.Effects(cell=plan.name, arm=arm, rows=evidence.effects[arm]))
        self._append(ev.CellEnded(cell=plan.name, status="complete", detail="", clocks=dict(evidence.clocks)))


def _batches(pairs: Sequence[PlannedPair], concurrency: int) -> Iterator[list[PlannedPair]]:
    """Whole blocks together, as few as give `concurrency` requests something to do: one for sequential runs."""
    batch: list[PlannedPair] = []
    for _, block in itertools.groupby(pairs, key=lambda planned: planned.block):
        batch.extend(block)
        if len(batch) >= concurrency:
            yield batch
            batch = []
    if batch:
        yield batch


def _wall_time() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")

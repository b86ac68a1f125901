"""Runs a campaign: cell by cell, block by block, pair by pair, each step written to the history as it happens."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, Protocol

from chaos.schedule import WARMUP_REQUEST
from matrices import events as ev
from matrices.campaign import Campaign, write_campaign
from matrices.client import AgentClient, Invocation
from matrices.conditions import ConditionsProbe
from matrices.history import CellState, HistoryWriter, state_of
from matrices.host_watch import HostWatch
from matrices.plan import PlannedCell, PlannedPair
from matrices.topology import LocalTopology
from treni.v1 import agent_pb2, common_pb2


class Progress(Protocol):
    """Where the runner says how far it is."""

    def cell(self, name: str, pairs: int, done: int) -> None:
        """A cell begins, `done` of its pairs complete already."""

    def pair(self, name: str) -> None:
        """A pair of the cell is complete."""


@dataclass(kw_only=True)
class _Cell:
    """A cell in progress: its plan, its processes, a client for each arm."""

    plan: PlannedCell
    topology: LocalTopology
    clients: dict[str, AgentClient]
    epoch: int
    watch: HostWatch | None = None

    async def hold(self) -> None:
        """Until whatever a fault broke is back, where faults break processes."""
        if self.watch is not None:
            await self.watch.hold()


class Runner:
    """Runs what of a campaign is not done yet.

    `epoch` counts the harness's starts on this campaign, so that no two executions share a run id.
    """

    def __init__(self, campaign: Campaign, progress: Progress) -> None:
        self._campaign = campaign
        self._progress = progress
        self._expected = {expectation.cell: expectation for expectation in campaign.expectations}
        self._writer: HistoryWriter | None = None

    async def run(self) -> None:
        """Runs a new campaign from the start. Raises TreniError if its folder has a history already."""
        self._campaign.folder.mkdir(parents=True, exist_ok=True)
        await self._run_cells({}, epoch=0)

    async def resume(self) -> None:
        """Goes on with an interrupted campaign: complete pairs stay, begun ones are abandoned and run again."""
        writer, events = HistoryWriter.resume(self._campaign.history_path, wall_time=_wall_time())
        self._writer = writer
        states = state_of(events)
        for state in states.values():
            for pair, begun in state.begun.items():
                run_ids = tuple(invoke.run_id for invoke in begun.invokes.values())
                writer.append(ev.Abandon(cell=state.cell, pair=pair, run_ids=run_ids))
        epoch = sum(isinstance(event, ev.Resumed) for event in events)
        await self._run_cells(states, epoch=epoch)

    async def _run_cells(self, states: dict[str, CellState], *, epoch: int) -> None:
        try:
            for plan in self._campaign.cells:
                state = states.get(plan.name, CellState(cell=plan.name))
                self._progress.cell(plan.name, len(plan.pairs), len(state.completed))
                if state.ended is None:
                    await self._run_cell(plan, state, epoch)
        finally:
            if self._writer is not None:
                self._writer.close()
                self._writer = None

    def _append(self, event: ev.Event) -> None:
        assert self._writer is not None
        self._writer.append(event)

    async def _run_cell(self, plan: PlannedCell, state: CellState, epoch: int) -> None:
        hop = plan.profile.faults.hop
        counters = {
            arm: plan.schedule.start + state.attempts(arm=arm, hop=hop)
            for arm in plan.arms
            if plan.faulted(arm)
        }
        async with LocalTopology.start(plan, self._campaign, counters) as topology:
            if self._writer is None:
                write_campaign(self._campaign, topology.info, toxiproxy=topology.toxiproxy_version)
                self._writer = HistoryWriter.create(self._campaign.history_path)
            clients = {arm: AgentClient(topology.address(arm)) for arm in plan.arms}
            cell = _Cell(plan=plan, topology=topology, clients=clients, epoch=epoch)
            self._append(
                ev.CellStarted(
                    cell=plan.name,
                    profile=plan.profile.name,
                    arms=plan.arms,
                    start_counter=counters,
                    details={"pids": topology.pids, "epoch": epoch},
                )
            )
            try:
                await self._warm_up(cell)
                async with self._watched(cell):
                    await self._run_blocks(cell, state)
            finally:
                for client in clients.values():
                    await client.close()
        self._end_cell(cell)

    @asynccontextmanager
    async def _watched(self, cell: _Cell) -> AsyncIterator[None]:
        """Where faults break processes: watches them, brings back the dead, and holds new requests until then."""
        if not cell.plan.breaks_hosts:
            yield
            return

        async def warm_up() -> bool:
            return await self._warm_up(cell)

        async with HostWatch.over(
            cell.topology, cell=cell.plan.name, append=self._append, warm_up=warm_up
        ) as cell.watch:
            yield

    async def _warm_up(self, cell: _Cell) -> bool:
        """A task without a tool and one with, on each arm, outside the plan: neither faulted nor counted.

        Whether all were answered.
        """
        answered = True
        tasks = [pair.task for pair in cell.plan.pairs if pair.task.side_effects == 0]
        plain = next((task for task in tasks if not task.expect.calls), None)
        calling = next((task for task in tasks if task.expect.calls), None)
        for arm, client in cell.clients.items():
            for number, task in enumerate(task for task in (plain, calling) if task is not None):
                run_id = f"{cell.plan.name}/warmup/{arm}/{cell.epoch}-{number}"
                request = agent_pb2.RunRequest(
                    run_id=run_id,
                    task_id=task.id,
                    prompt=task.prompt,
                    tools=task.tools,
                    request_index=WARMUP_REQUEST,
                )
                done = await client.run(request, timeout_s=cell.plan.profile.policy.run_timeout)
                answered &= done.error is None
        return answered

    async def _run_blocks(self, cell: _Cell, state: CellState) -> None:
        probe = ConditionsProbe(lambda: cell.topology.pids.values())
        concurrency = self._campaign.options.concurrency
        slots = asyncio.Semaphore(concurrency)
        todo = [planned for planned in cell.plan.pairs if planned.pair not in state.completed]
        for batch in _batches(todo, concurrency):
            blocks = dict.fromkeys(planned.block for planned in batch)
            self._mark(cell, blocks, "start", probe)
            async with asyncio.TaskGroup() as group:
                for planned in batch:
                    await slots.acquire()
                    task = group.create_task(self._run_pair(cell, planned))
                    task.add_done_callback(lambda _: slots.release())
            self._mark(cell, blocks, "end", probe)

    def _mark(
        self, cell: _Cell, blocks: Iterable[int], phase: Literal["start", "end"], probe: ConditionsProbe
    ) -> None:
        conditions = probe.read()
        if cell.plan.breaks_hosts:
            conditions["rss_mb"] = cell.topology.rss_mb
        for block in blocks:
            self._append(ev.Block(cell=cell.plan.name, block=block, phase=phase, conditions=conditions))

    async def _run_pair(self, cell: _Cell, planned: PlannedPair) -> None:
        name = cell.plan.name
        self._append(self._started(cell.plan, planned))
        for arm in planned.order:
            run_id = f"{name}/{planned.pair}/{arm}/{cell.epoch}"
            request = agent_pb2.RunRequest(
                run_id=run_id,
                task_id=planned.task.id,
                prompt=planned.task.prompt,
                tools=planned.task.tools,
                sampling=common_pb2.Sampling(seed=self._campaign.options.seed),
                request_index=planned.pair,
                no_idempotency=not cell.plan.idempotency,
            )
            await cell.hold()
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
            done = await cell.clients[arm].run(request, timeout_s=cell.plan.profile.policy.run_timeout)
            self._append(_outcome(cell, planned, arm, run_id, done))
        # What hurt the pair is in the history before the pair counts, also if the harness is killed in between.
        await cell.hold()
        self._append(ev.PairCompleted(cell=name, pair=planned.pair))
        self._progress.pair(name)

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
            expected_calls=len(planned.task.expect.calls),
            side_effects=planned.task.side_effects,
        )

    def _end_cell(self, cell: _Cell) -> None:
        """After the processes have ended, so that nothing more can be delivered or take effect."""
        name = cell.plan.name
        for arm in cell.plan.arms:
            self._append(ev.Deliveries(cell=name, arm=arm, faults=cell.topology.deliveries(arm)))
            self._append(ev.Effects(cell=name, arm=arm, rows=cell.topology.effects(arm)))
        deaths = cell.topology.deaths
        self._append(
            ev.CellEnded(cell=name, status="broken" if deaths else "complete", detail="; ".join(deaths))
        )


def _outcome(cell: _Cell, planned: PlannedPair, arm: str, run_id: str, done: Invocation) -> ev.Outcome:
    error = None
    if done.error is not None:
        # A service that died is the cause behind whatever its peers made of it.
        message = "; ".join([str(done.error), *cell.topology.note_deaths()])
        error = ev.RunError(
            code=done.error.code.name,
            kind=done.error.kind,
            definite=done.error.definite,
            message=message,
            hop=done.error.hop,
            fault_id=done.error.fault_id,
        )
    return ev.Outcome(
        cell=cell.plan.name,
        pair=planned.pair,
        arm=arm,
        run_id=run_id,
        outcome=done.outcome,
        error=error,
        latency_s=done.latency_s,
        ttft_s=done.ttft_s,
        answer=done.answer,
        correct=None if done.answer is None or error is not None else planned.task.is_correct(done.answer),
        record=done.record,
    )


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

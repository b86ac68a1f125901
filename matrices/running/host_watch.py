"""Keeps a cell going whose faults break processes: who died as planned comes back, and new requests wait for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from matrices.arms.arm import Comparison
from matrices.evidence import events as ev
from matrices.running.bystander import Bystander, Gap
from matrices.topologies.cell_services import CellServices
from matrices.topologies.supervisor import RESTART_LIMIT_S, Return

HOLD_LIMIT_S = 2 * RESTART_LIMIT_S
"""How long new requests wait for a role, after which the cell is broken."""


class HostLog:
    """Writes outages and restarts to the history, an outage always before the restart that ended it.

    A harness that is killed in between leaves an outage whose crash belongs to a request that is not complete, and
    never a restart that nothing accounts for.
    """

    def __init__(self, cell: str, comparison: Comparison, append: Callable[[ev.Event], None]) -> None:
        self.returns = 0
        self._cell = cell
        self._comparison = comparison
        self._append = append
        self._outage_until_s: dict[str, float] = {}
        self._waiting: dict[str, ev.Restarted] = {}

    def outage(self, gap: Gap) -> None:
        """A role answers again."""
        self._append(
            ev.Outage(
                cell=self._cell,
                role=gap.role,
                arm=self._arm_of(gap.role),
                start_s=gap.start_s,
                end_s=gap.end_s,
                probes_lost=gap.probes_lost,
            )
        )
        self._outage_until_s[gap.role] = gap.end_s
        if (waiting := self._waiting.pop(gap.role, None)) is not None:
            self._append(waiting)

    def restart(self, back: Return) -> None:
        """A role that died serves again."""
        self.returns += 1
        event = ev.Restarted(
            cell=self._cell,
            role=back.role,
            arm=self._arm_of(back.role),
            death=back.death,
            died_s=back.died_s,
            serving_s=back.serving_s,
            pid=back.pid,
        )
        if self._outage_until_s.get(back.role, float("-inf")) >= back.died_s:
            self._append(event)
        else:
            self._waiting[back.role] = event

    def close(self) -> None:
        """Writes what still waits for an outage that nobody saw."""
        for event in self._waiting.values():
            self._append(event)

    def _arm_of(self, role: str) -> str:
        """The arm that the role works for: where faults break processes, no two arms share one."""
        return next(arm.name for arm in self._comparison if role in arm.roles)


class HostWatch:
    """The watch over one cell's processes. Use `HostWatch.over`."""

    def __init__(
        self,
        services: CellServices,
        bystander: Bystander,
        log: HostLog,
        warm_up: Callable[[], Awaitable[bool]],
    ) -> None:
        self._services = services
        self._bystander = bystander
        self._log = log
        self._warm_up = warm_up
        self._warming = asyncio.Lock()
        self._warm_returns = 0

    @classmethod
    @asynccontextmanager
    async def over(
        cls,
        services: CellServices,
        *,
        cell: str,
        comparison: Comparison,
        append: Callable[[ev.Event], None],
        warm_up: Callable[[], Awaitable[bool]],
    ) -> AsyncIterator[HostWatch]:
        """Watches while the block runs; outages and restarts go to `append` as they end.

        `warm_up` sends requests that count for nothing and says whether all were answered.
        """
        log = HostLog(cell, comparison, append)
        async with (
            Bystander.watch(services.addresses, log.outage) as bystander,
            asyncio.TaskGroup() as group,
        ):
            tasks = [group.create_task(ward.tend(log.restart)) for ward in services.wards.values()]
            try:
                yield cls(services, bystander, log, warm_up)
            finally:
                for task in tasks:
                    task.cancel()
        log.close()

    async def hold(self) -> None:
        """Waits until every role answers, and has been warmed up if it is new.

        The outages and restarts that end by then are in the history. A role that does not answer for `HOLD_LIMIT_S`
        is given up, which ends the cell as broken.
        """
        limit_s = time.monotonic() + HOLD_LIMIT_S
        await self._all_answer()
        # As at the start of a cell: a cold process, or a connection that still backs off, is no finding of the next
        # request's.
        while self._warm_returns < self._log.returns and time.monotonic() < limit_s:
            async with self._warming:
                returns = self._log.returns
                if self._warm_returns < returns and await self._warm_up():
                    self._warm_returns = returns
            await self._all_answer()

    async def _all_answer(self) -> None:
        silent = await self._bystander.all_answer(limit_s=HOLD_LIMIT_S, gone=self._services.is_gone)
        if silent is not None:
            self._services.give_up(silent, f"did not answer for {HOLD_LIMIT_S:.0f} s")
        for ward in self._services.wards.values():
            await ward.settled()

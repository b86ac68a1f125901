"""A segment of a cell in progress: its services, a client for each arm, and whether all of them are still there."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from chaos.schedule import Schedule
from matrices.planning.plan import PlannedCell
from matrices.running.client import AgentClients, Invocation
from matrices.running.host_watch import HOLD_LIMIT_S, HostWatch
from matrices.topologies.cell_evidence import Evidence
from matrices.topologies.cell_services import CellServices
from treni import metadata
from treni.errors import TreniError
from treni.v1 import agent_pb2

SUSPICION_S = 5.0
"""How long a run may take before it is asked whether every service still answers."""

ANSWER_LIMIT_S = 30.0
"""How long a service may take to say how it is. One that does not in that time hangs, and its cell is over."""


class CellBroken(Exception):
    """A service of the cell was lost: it says which and how. What was not run yet is for a resumption."""


@dataclass(kw_only=True)
class Segment:
    """A segment of a cell in progress: the cell's plan, the services, a client for each arm."""

    plan: PlannedCell
    number: int
    services: CellServices
    clients: dict[str, AgentClients]
    epoch: int
    worker_pids: tuple[int, ...] = ()
    watch: HostWatch | None = None

    def marks(self, arm: str, pair: int, run_id: str) -> dict[str, str]:
        """The metadata of the client's call, which has the fault that the schedule puts on it; {} without one."""
        schedule = self._of_clients.get(arm)
        fault = None
        if schedule is not None:
            fault = schedule.fault_at(n=0, request_index=pair, call_index=0, attempt=0)
        if fault is None:
            return {}
        return {**fault.to_metadata(), metadata.RUN_ID: run_id, metadata.ATTEMPT: "0"}

    @cached_property
    def _of_clients(self) -> dict[str, Schedule]:
        """The schedule of the client's calls by arm, for those that have one."""
        return {
            arm: schedule
            for arm in self.plan.arms
            for schedule in self.plan.schedules_on(arm)
            if schedule.hop == "agent"
        }

    async def hold(self) -> None:
        """Waits until whatever a fault broke is back, where faults break processes."""
        if self.watch is not None:
            await self.watch.hold()
        # What struck a host is in the history before a pair that it hurt counts; nobody is held back by it.
        await self.services.hear()
        self.check()

    def check(self) -> None:
        """Raises `CellBroken` where a service is known to be lost."""
        if deaths := self.services.note_deaths():
            raise CellBroken("; ".join(deaths))

    async def evidence(self) -> Evidence:
        """What the services hold, the cell ended at each; raises `CellBroken` where one was lost on the way."""
        try:
            return await self.services.evidence()
        except TreniError:
            await self.look()
            raise

    async def look(self) -> None:
        """Asks every service whether it is there; raises `CellBroken` where one is not."""
        await self.services.look(limit_s=ANSWER_LIMIT_S if self.watch is None else HOLD_LIMIT_S)
        self.check()

    async def invoke(self, arm: str, request: agent_pb2.RunRequest, marks: Mapping[str, str]) -> Invocation:
        """Sends the request with its marks; what it came to. Raises `CellBroken` where a service was lost meanwhile."""
        timeout_s = self.plan.profile.policy.run_timeout
        run = asyncio.ensure_future(self.clients[arm].run(request, timeout_s=timeout_s, marks=marks))
        try:
            while not (await asyncio.wait({run}, timeout=SUSPICION_S))[0]:
                await self.look()
        finally:
            run.cancel()
        done = run.result()
        if done.error is not None and done.error.fault_id == "" and self.watch is None:
            # Nothing that was asked for: who is there at all? The outcome will say so.
            await self.services.look(limit_s=ANSWER_LIMIT_S)
        return done


def cause_of(failed: BaseExceptionGroup[BaseException]) -> BaseException:
    """The one exception that a group of tasks failed with: our own error, else a lost service, else whatever it is."""
    leaves: list[BaseException] = []
    groups: list[BaseExceptionGroup[BaseException]] = [failed]
    while groups:
        for one in groups.pop().exceptions:
            groups.append(one) if isinstance(one, BaseExceptionGroup) else leaves.append(one)
    for kind in (TreniError, CellBroken):
        for leaf in leaves:
            if isinstance(leaf, kind):
                return leaf
    return leaves[0]

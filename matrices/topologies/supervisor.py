"""Brings back the roles that a planned crash takes down; a death that nothing planned stays one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from matrices.topologies.processes import Child
from treni.errors import TreniError

RESTART_LIMIT_S = 180.0
"""How long a role may take to serve again. Only what will never serve takes longer."""

RETRY_S = 0.2


@dataclass(frozen=True, kw_only=True, slots=True)
class Return:
    """A role that died and serves again, by the monotonic clock; `death` says how it died."""

    role: str
    death: str
    died_s: float
    serving_s: float
    pid: int


class Ward:
    """One role under supervision.

    `crashes` counts the crashes that were logged as handed to it so far: a death after one more than before was
    planned. Two crashes that are handed out at once share one death. `again` makes a process that was started once more
    do what the one before did.
    """

    def __init__(
        self, child: Child, crashes: Callable[[], int], again: Callable[[], Awaitable[None]]
    ) -> None:
        self._child = child
        self._crashes = crashes
        self._again = again
        self._accounted = crashes()
        self._settled = asyncio.Event()
        self._settled.set()

    @property
    def excused(self) -> bool:
        """Whether the role, if it is dead, is to come back."""
        return not self._settled.is_set() or self._crashes() > self._accounted

    async def settled(self) -> None:
        """Waits while the role is being restarted, until it serves again or never will."""
        await self._settled.wait()

    async def tend(self, note: Callable[[Return], None]) -> None:
        """Restarts the role after each planned death and tells of it; ends after a death that it cannot undo."""
        while True:
            await self._child.process.wait()
            died_s = time.monotonic()
            if not self.excused:
                return
            self._settled.clear()
            self._accounted = self._crashes()
            death = self._child.death() or ""
            serves = await self._restarted(died_s + RESTART_LIMIT_S)
            if serves:
                note(
                    Return(
                        role=self._child.name,
                        death=death,
                        died_s=died_s,
                        serving_s=time.monotonic(),
                        pid=self._child.pid,
                    )
                )
            self._settled.set()
            if not serves:
                return

    async def _restarted(self, limit_s: float) -> bool:
        """Whether the role came up before `limit_s`, by as many starts as it takes."""
        try:
            async with asyncio.timeout_at(asyncio.get_running_loop().time() + limit_s - time.monotonic()):
                while True:
                    try:
                        if self._child.death() is not None:
                            await self._child.restart()
                        await self._again()
                        return True
                    except TreniError:
                        # Its port may have been taken for a moment; its log says why it did not start.
                        await asyncio.sleep(RETRY_S)
        except TimeoutError:
            return False

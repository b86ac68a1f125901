"""A tool that holds its host's interpreter."""

from __future__ import annotations

import asyncio
import ctypes
import time
from typing import Annotated, ClassVar

from pydantic import Field

from chaos.faults.host import MAX_HOST_FAULT_MS, HostFault
from chaos.faults.kind import Ending, Key, Struck, answered
from chaos.faults.lost import CODE, timed_out


class Hang(HostFault):
    """The tool holds its host's interpreter before it runs, so that nothing else in that process does."""

    name: ClassVar[str] = "hang"
    letter: ClassVar[str] = "H"
    codes: ClassVar[frozenset[str]] = frozenset({CODE})

    duration_ms: Annotated[int, Key(name="duration", per_second=1000)] = Field(
        ge=1,
        le=MAX_HOST_FAULT_MS,
        description="For how long; from the tool's timeout on, the attempt fails.",
    )

    def ending(self, struck: Struck) -> Ending:
        """The late answer, or the timeout where the hang alone uses that up and no tool runs any more.

        In the caller's own process a hang also stops the clock that would end the attempt.
        """
        held_s = self.standstill_s if struck.in_process else min(self.standstill_s, struck.timeout_s)
        if self.duration_ms >= struck.timeout_s * 1000:
            return timed_out(self.name, struck, tool_runs=False, least_s=held_s)
        return answered(least_s=held_s, struck=struck)

    async def strike(self) -> None:
        """Makes a native call that keeps the interpreter lock."""
        await asyncio.to_thread(hold_interpreter, self.standstill_s)

    @property
    def standstill_s(self) -> float:
        """Seconds for which it keeps the interpreter lock."""
        return self.duration_ms / 1000


def hold_interpreter(duration_s: float) -> None:
    """Keeps the interpreter lock for that long: no other thread of this process runs Python code meanwhile."""
    # PyDLL, unlike CDLL, calls with the lock held.
    usleep = ctypes.PyDLL(None).usleep
    ends_s = time.monotonic() + duration_s
    # In one call as a rule: between two the lock may be lost for a moment, but a signal cuts a sleep short.
    while (left_s := ends_s - time.monotonic()) > 0:
        usleep(int(left_s * 1e6) + 1)

"""A tool that takes its host's machine."""

from __future__ import annotations

import asyncio
import hashlib
import os
import threading
import time
from typing import Annotated, ClassVar

from pydantic import Field

from chaos.faults.host import MAX_HOST_FAULT_MB, MAX_HOST_FAULT_MS, HostFault, touched
from chaos.faults.kind import Ending, Key, Struck, answered

_CHUNK_BYTES = 4 << 20


class Hog(HostFault):
    """The tool keeps every core busy and holds memory before it runs."""

    name: ClassVar[str] = "hog"
    letter: ClassVar[str] = "G"

    duration_ms: Annotated[int, Key(name="duration", per_second=1000)] = Field(
        default=1000, ge=1, le=MAX_HOST_FAULT_MS, description="For how long."
    )
    memory_mb: int = Field(
        default=256, ge=1, le=MAX_HOST_FAULT_MB, description="MiB that are touched and held meanwhile."
    )

    def ending(self, struck: Struck) -> Ending:
        """The late answer: how much later than planned depends on the machine, and a timeout is a finding."""
        return answered(least_s=self.standstill_s, struck=struck)

    async def strike(self) -> None:
        """Takes all cores and the memory for a while; with the interpreter free, others are slowed, not stopped."""
        await asyncio.to_thread(hog, self.standstill_s, memory_mb=self.memory_mb)

    @property
    def standstill_s(self) -> float:
        """Seconds for which it keeps the cores busy."""
        return self.duration_ms / 1000

    @property
    def held_mb(self) -> int:
        """MiB that it touches and gives back."""
        return self.memory_mb


def hog(duration_s: float, *, memory_mb: int) -> None:
    """Keeps all cores that this process may use busy for that long, on `memory_mb` MiB that are given back after.

    The work is native and leaves the interpreter lock alone but for a moment every few milliseconds.
    """
    memory = touched(memory_mb)
    ends_s = time.monotonic() + duration_s

    def burn() -> None:
        with memoryview(memory) as view:
            while time.monotonic() < ends_s:
                for start in range(0, len(view), _CHUNK_BYTES):
                    hashlib.sha256(view[start : start + _CHUNK_BYTES])
                    if time.monotonic() >= ends_s:
                        break

    threads = [threading.Thread(target=burn, name="hog") for _ in os.sched_getaffinity(0)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

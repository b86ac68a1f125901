"""What a tool that goes wrong does to the process that hosts it: ends it, freezes it, takes its machine, fills it.

In the internal arm that process is the runtime (loop, engine and tools), in the external one the tool service.
"""

from __future__ import annotations

import asyncio
import ctypes
import hashlib
import os
import signal
import threading
import time

from chaos.faults import Crash, Hang, Hog, HostKind, Leak

_MIB = 1 << 20
_PAGE_BYTES = 4096
_CHUNK_BYTES = 4 * _MIB

_leaked: list[bytearray] = []


async def strike(kind: HostKind) -> None:
    """Does to this process what `kind` says; comes back when that is over, from a crash never.

    A caller that is cancelled meanwhile leaves at once, but a hang or a hog that began goes on to its end: nobody can
    stop a native call.
    """
    match kind:
        case Crash():
            os.kill(os.getpid(), signal.SIGKILL)
        case Hang(duration_ms=duration_ms):
            await asyncio.to_thread(hold_interpreter, duration_ms / 1000)
        case Hog(duration_ms=duration_ms, memory_mb=memory_mb):
            await asyncio.to_thread(hog, duration_ms / 1000, memory_mb=memory_mb)
        case Leak(size_mb=size_mb):
            await asyncio.to_thread(leak, size_mb)


def hold_interpreter(duration_s: float) -> None:
    """Keeps the interpreter lock for that long: no other thread of this process runs Python code meanwhile."""
    # PyDLL, unlike CDLL, calls with the lock held.
    usleep = ctypes.PyDLL(None).usleep
    ends_s = time.monotonic() + duration_s
    # In one call as a rule: between two the lock may be lost for a moment, but a signal cuts a sleep short.
    while (left_s := ends_s - time.monotonic()) > 0:
        usleep(int(left_s * 1e6) + 1)


def hog(duration_s: float, *, memory_mb: int) -> None:
    """Keeps all cores that this process may use busy for that long, on `memory_mb` MiB that are given back after.

    The work is native and leaves the interpreter lock alone but for a moment every few milliseconds.
    """
    memory = _touched(memory_mb)
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


def leak(size_mb: int) -> None:
    """Makes this process larger by `size_mb` MiB until it ends."""
    _leaked.append(_touched(size_mb))


def _touched(size_mb: int) -> bytearray:
    """Memory that is really there: pages that nobody wrote would cost nothing."""
    memory = bytearray(size_mb * _MIB)
    memory[::_PAGE_BYTES] = b"\x01" * (len(memory) // _PAGE_BYTES)
    return memory

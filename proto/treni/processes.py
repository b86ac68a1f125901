"""What everybody who starts processes has in common: how they are ended."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress

STOP_TIMEOUT_S = 30.0
"""The limit for a process that does not heed the signal; one that winds up on a loaded machine is let do so."""


async def stop(process: asyncio.subprocess.Process) -> None:
    """Asks it to end, and kills it if it does not within `STOP_TIMEOUT_S`. Nothing where it has ended."""
    _send(process, signal.SIGTERM)
    try:
        async with asyncio.timeout(STOP_TIMEOUT_S):
            await process.wait()
    except TimeoutError:
        await kill(process)


async def kill(process: asyncio.subprocess.Process) -> None:
    """Kills it unless it has ended, and waits for that; `process.returncode` says how it did end."""
    _send(process, signal.SIGKILL)
    await process.wait()


def _send(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    # Not by the process's own methods: they first ask whether it has ended, and where it has, asyncio, which asks
    # after them, gives 255 for its status.
    if process.returncode is None:
        with suppress(ProcessLookupError):
            os.kill(process.pid, number)

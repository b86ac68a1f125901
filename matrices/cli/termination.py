"""How a command ends that a supervisor's SIGTERM reaches: as it does by Ctrl-C, once it has wound up."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine

TERMINATED = 128 + signal.SIGTERM
"""The exit status of a command that was told to end by SIGTERM."""


class Terminated(Exception):
    """The process was told to end by SIGTERM."""


async def unless_terminated(work: Coroutine[None, None, None]) -> None:
    """Does the work. Raises `Terminated`, once the work has wound up, if SIGTERM came meanwhile."""
    task = asyncio.ensure_future(work)
    told = asyncio.Event()

    def terminate() -> None:
        told.set()
        task.cancel()

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, terminate)
    try:
        await task
    except asyncio.CancelledError:
        if not told.is_set():
            raise
        raise Terminated from None

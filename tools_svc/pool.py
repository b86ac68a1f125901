"""A bounded pool of threads in front of blocking work: what does not fit is refused, what is late never runs."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from treni.errors import Code, TreniError

T = TypeVar("T")


class BoundedPool:
    """Runs at most `workers` calls at once and lets at most `queue` more wait."""

    def __init__(self, *, workers: int, queue: int) -> None:
        self._capacity = workers + queue
        self._free = threading.Semaphore(self._capacity)
        self._threads = ThreadPoolExecutor(max_workers=workers, thread_name_prefix="tool")

    async def run(self, work: Callable[[], T], *, deadline_s: float | None) -> T:
        """The result of `work`, run in a thread; `deadline_s` is the time left, None for no deadline.

        Raises RESOURCE_EXHAUSTED when pool and queue are full and DEADLINE_EXCEEDED when the time is up before
        the work began; both are definite. A caller that is cancelled takes its waiting work along; work that
        already began is finished.
        """
        expires_s = float("inf") if deadline_s is None else time.monotonic() + deadline_s
        if deadline_s is not None and deadline_s <= 0:
            raise _expired()
        if not self._free.acquire(blocking=False):
            raise TreniError(
                Code.RESOURCE_EXHAUSTED,
                "tool_queue_full",
                expected=f"at most {self._capacity} calls at once",
                got="one more",
                todo="retry after a backoff",
            )
        abandoned = threading.Event()

        def guarded() -> T:
            try:
                if abandoned.is_set() or time.monotonic() >= expires_s:
                    raise _expired()
                return work()
            finally:
                self._free.release()

        # Shielded, so that a cancelled caller cannot take the call out of the queue before its slot is freed.
        running = asyncio.get_running_loop().run_in_executor(self._threads, guarded)
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            abandoned.set()
            running.add_done_callback(_forget)
            raise

    async def close(self) -> None:
        """Waits for the work that began."""
        await asyncio.to_thread(self._threads.shutdown, wait=True)


def _forget(finished: asyncio.Future[T]) -> None:
    """Takes note of a failure that nobody waits for, so that asyncio does not log it as lost."""
    if not finished.cancelled():
        finished.exception()


def _expired() -> TreniError:
    return TreniError(
        Code.DEADLINE_EXCEEDED,
        "deadline_exceeded",
        expected="time left to run the tool",
        got="a deadline that had passed before it began",
        todo="allow more time",
        definite=True,
    )

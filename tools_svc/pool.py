"""Bounded threads in front of blocking work: what does not fit is refused, what is late never runs."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from tools_svc.protocol import Caller
from treni.errors import Code, TreniError

T = TypeVar("T")


class BoundedPool:
    """Runs at most `workers` calls of one kind at once and lets at most `queue` more of it wait.

    Every kind has threads and a queue of its own, so that slow calls of one never hold up another.
    """

    def __init__(self, *, workers: int, queue: int) -> None:
        self._workers = workers
        self._queue = queue
        self._lanes: dict[str, _Lane] = {}

    async def run(self, work: Callable[[Caller], T], *, deadline_s: float | None, kind: str = "") -> T:
        """The result of `work`, run in a thread; `deadline_s` is the time left, None for no deadline.

        `work` is told who waits for it. Raises RESOURCE_EXHAUSTED when the threads and the queue of the `kind` are
        full and DEADLINE_EXCEEDED when the time is up before the work began; both are definite. A caller that is
        cancelled takes its waiting work along; work that already began hears that he has left.
        """
        lane = self._lanes.get(kind)
        if lane is None:
            lane = self._lanes[kind] = _Lane(self._workers, self._queue)
        return await lane.run(work, Caller(deadline_s))

    async def close(self) -> None:
        """Waits for the work that began."""
        await asyncio.gather(*(lane.close() for lane in self._lanes.values()))


class _Lane:
    """One kind's threads and its queue."""

    def __init__(self, workers: int, queue: int) -> None:
        self._capacity = workers + queue
        self._free = threading.Semaphore(self._capacity)
        self._threads = ThreadPoolExecutor(max_workers=workers, thread_name_prefix="tool")

    async def run(self, work: Callable[[Caller], T], caller: Caller) -> T:
        if caller.gone:
            raise _expired()
        if not self._free.acquire(blocking=False):
            raise TreniError(
                Code.RESOURCE_EXHAUSTED,
                "tool_queue_full",
                expected=f"at most {self._capacity} calls of one tool at once",
                got="one more",
                todo="retry after a backoff",
            )

        def guarded() -> T:
            try:
                if caller.gone:
                    raise _expired()
                return work(caller)
            finally:
                self._free.release()

        # Shielded, so that a cancelled caller cannot take the call out of the queue before its slot is freed.
        running = asyncio.get_running_loop().run_in_executor(self._threads, guarded)
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            caller.leave()
            running.add_done_callback(_forget)
            raise

    async def close(self) -> None:
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

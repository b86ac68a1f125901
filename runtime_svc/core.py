"""The engine for asyncio: one engine thread, a bounded queue before it, cancellation through it."""

from __future__ import annotations

import asyncio
import math
import sys
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import Any

from runtime_svc.engine import Engine
from runtime_svc.errors import cancelled
from runtime_svc.validate import check_embed
from treni.errors import Code, TreniError
from treni.v1 import inference_pb2

SWITCH_INTERVAL_S = 1e-4
"""A busy engine thread gives up the interpreter this often; Python's default of 5 ms delays every chunk."""

FLUSH_INTERVAL_S = 0.01
"""Text after an answer's first is handed over this often. Every hand-over takes the interpreter from the engine:
one a token would cost a small model half its speed behind gRPC."""


_Work = Callable[[Callable[[], bool]], Iterator[Any]]
"""Given what tells whether to stop: checks the request now, and does the work as it is iterated over."""


class InferenceCore:
    """What the gRPC servicer and the in-process model port both call. One instance per engine.

    Requests run one at a time in order of arrival. At most `max_queue` wait; the next is refused with
    RESOURCE_EXHAUSTED, definitely not done. `start` and `aclose` bracket its life, or `async with`.
    """

    def __init__(
        self, engine: Engine, *, max_queue: int = 64, flush_interval_s: float = FLUSH_INTERVAL_S
    ) -> None:
        self.engine = engine
        self._flush_interval_s = flush_interval_s
        self._max_queue = max_queue
        self._waiting: deque[_Job] = deque()
        self._running: _Job | None = None
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._work, name="engine", daemon=True)

    async def __aenter__(self) -> InferenceCore:
        self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def start(self) -> None:
        """Starts the engine thread. Shortens the interpreter's switch interval for the whole process."""
        sys.setswitchinterval(min(sys.getswitchinterval(), SWITCH_INTERVAL_S))
        self._thread.start()

    async def aclose(self) -> None:
        """Cancels what runs and what waits, and ends the engine thread."""
        with self._changed:
            self._closing = True
            for job in self._waiting:
                job.cancel(_shutting_down(definite=True))
            if self._running is not None:
                self._running.cancel(_shutting_down(definite=False))
            self._changed.notify()
        if self._thread.is_alive():
            await asyncio.to_thread(self._thread.join)

    def info(self) -> inference_pb2.InfoResponse:
        """What runs here."""
        return self.engine.info

    async def generate(
        self, request: inference_pb2.GenerateRequest
    ) -> AsyncGenerator[inference_pb2.GenerateChunk, None]:
        """The first text at once, then what was decoded since, every `flush_interval_s`; the finish last.

        Closing the iterator, or cancelling the task that awaits it, stops the engine at the next token, or
        takes the request from the queue. Raises `TreniError`: INVALID_ARGUMENT, RESOURCE_EXHAUSTED when the
        queue is full, UNAVAILABLE while closing, and what `Engine.generate` raises.
        """
        arrived_s = time.perf_counter()

        def work(cancelled: Callable[[], bool]) -> Iterator[inference_pb2.GenerateChunk]:
            chunks = self.engine.generate(request, arrived_s=arrived_s, cancelled=cancelled)
            return _gathered(chunks, self._flush_interval_s)

        job = self._submit(work)
        try:
            while (chunk := await job.next()) is not None:
                yield chunk
        finally:
            self._drop(job)

    async def embed(self, request: inference_pb2.EmbedRequest) -> inference_pb2.EmbedResponse:
        """See `Engine.embed`; queued with the generations, and raises as `generate` does."""
        check_embed(request)

        def work(cancelled: Callable[[], bool]) -> Iterator[inference_pb2.EmbedResponse]:
            yield self.engine.embed(request, cancelled=cancelled)

        job = self._submit(work)
        try:
            response = await job.next()
        finally:
            self._drop(job)
        assert isinstance(response, inference_pb2.EmbedResponse)
        return response

    def _submit(self, work: _Work) -> _Job:
        job = _Job(asyncio.get_running_loop(), work)
        with self._changed:
            if self._closing:
                raise _shutting_down(definite=True)
            if len(self._waiting) >= self._max_queue:
                raise TreniError(
                    Code.RESOURCE_EXHAUSTED,
                    "queue_full",
                    expected=f"at most {self._max_queue} requests waiting for the engine",
                    got="one more",
                    todo="send fewer at once, or retry after a backoff",
                )
            self._waiting.append(job)
            self._changed.notify()
        return job

    def _drop(self, job: _Job) -> None:
        """Nobody reads this job any longer: it stops at its next token, or never starts."""
        job.cancel(cancelled())
        with self._changed:
            if job in self._waiting:
                self._waiting.remove(job)

    def _work(self) -> None:
        """The engine thread."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closing)
                if not self._waiting:
                    return
                job = self._running = self._waiting.popleft()
            job.run()
            with self._changed:
                self._running = None


class _Job:
    """One request between its asyncio task, which reads, and the engine thread, which writes."""

    def __init__(self, loop: asyncio.AbstractEventLoop, work: _Work) -> None:
        self._loop = loop
        self._cancelled: TreniError | None = None
        # Holds one answer at most, which max_new_tokens and the context length bound.
        self._ready: asyncio.Queue[object] = asyncio.Queue()
        self._chunks = work(self.is_cancelled)

    def cancel(self, reason: TreniError) -> None:
        """From any thread: stop at the next token, and tell whoever still reads the reason. The first counts."""
        if self._cancelled is None:
            self._cancelled = reason

    def is_cancelled(self) -> bool:
        """Whether to stop."""
        return self._cancelled is not None

    async def next(self) -> Any:
        """The next chunk; None after the last. Raises the error that ended the work."""
        item = await self._ready.get()
        if isinstance(item, BaseException):
            raise item
        return item

    def run(self) -> None:
        """On the engine thread: does the work and hands over each chunk. Never raises."""
        try:
            if self._cancelled is not None:
                raise self._cancelled
            for chunk in self._chunks:
                self._hand_over(chunk)
            self._hand_over(None)
        except TreniError as error:
            self._hand_over(error if self._cancelled is None else self._cancelled)
        except Exception as error:  # an engine thread that dies would hang every later request
            self._hand_over(_unexpected(error))

    def _hand_over(self, item: object) -> None:
        try:
            self._loop.call_soon_threadsafe(self._ready.put_nowait, item)
        except RuntimeError:
            # The reader's event loop is closed, so there is nobody left to tell.
            self.cancel(cancelled())


def _gathered(
    chunks: Iterator[inference_pb2.GenerateChunk], interval_s: float
) -> Iterator[inference_pb2.GenerateChunk]:
    """The same text in fewer chunks: the first at once, later ones at least `interval_s` apart."""
    held: list[str] = []
    due_s = -math.inf
    for chunk in chunks:
        held.append(chunk.text)
        finished = chunk.HasField("finish")
        if not finished and time.perf_counter() < due_s:
            continue
        chunk.text = "".join(held)
        held.clear()
        yield chunk
        due_s = time.perf_counter() + interval_s


def _shutting_down(*, definite: bool) -> TreniError:
    return TreniError(
        Code.UNAVAILABLE,
        "shutting_down",
        expected="a running engine",
        got="one that is closing",
        todo="send the request to another instance, or later",
        definite=definite,
    )


def _unexpected(error: Exception) -> TreniError:
    return TreniError(
        Code.INTERNAL,
        "engine_failed",
        expected="the engine to answer",
        got=f"{type(error).__name__}: {error}",
        todo="report it with the request; the engine goes on",
    )

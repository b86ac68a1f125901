"""The engine for asyncio: one engine thread, a bounded queue before it, cancellation through it."""

from __future__ import annotations

import asyncio
import math
import sys
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Generic, TypeVar

from runtime_svc.constraints.grammar import is_held
from runtime_svc.decoding.generation import Generation
from runtime_svc.decoding.stages import HAND_OVER, STAGES
from runtime_svc.engine import Engine
from runtime_svc.errors import cancelled, unexpected
from treni import spans, tracing
from treni.errors import Code, TreniError
from treni.v1 import inference_pb2

T = TypeVar("T")

SWITCH_INTERVAL_S = 1e-4
"""A busy engine thread gives up the interpreter this often; Python's default of 5 ms delays every chunk."""

LARGE_BYTES = 8 * 1024
"""Requests from here on are tokenised beside the engine, so that nobody's next token waits for it; smaller ones are
tokenised sooner than they could be handed to another thread."""

IDLE_S = 0.05
"""After so long without work the engine prepares for more: what comes next seldom comes while it does."""

FLUSH_INTERVAL_S = 0.01
"""Text after an answer's first is handed over this often. Every hand-over takes the interpreter from the engine:
one a token would cost a small model half its speed behind gRPC."""


class InferenceCore:
    """What the gRPC servicer and the in-process model port both call. One instance per engine.

    Generations are admitted in order of arrival and run side by side; texts are embedded one at a time between
    their steps. At most `max_queue` wait for a free row; the next is refused with RESOURCE_EXHAUSTED, definitely
    not done. `start` and `aclose` bracket its life, or `async with`.
    """

    def __init__(
        self, engine: Engine, *, max_queue: int = 64, flush_interval_s: float = FLUSH_INTERVAL_S
    ) -> None:
        self.engine = engine
        self._flush_interval_s = flush_interval_s
        self._max_queue = max_queue
        self._generations: set[Generation] = set()
        self._embeddings: deque[_Embedding] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._preparing = 0
        self._preparers = ThreadPoolExecutor(max_workers=1, thread_name_prefix="tokenise")
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
            for generation in self._generations:
                generation.cancel(_shutting_down(definite=not generation.begun))
            for embedding in self._embeddings:
                embedding.cancel(_shutting_down(definite=not embedding.begun))
            self._changed.notify()
        self._preparers.shutdown(wait=False, cancel_futures=True)
        if self._thread.is_alive():
            await asyncio.to_thread(self._thread.join)

    @property
    def ready(self) -> bool:
        """Whether the engine thread runs and takes requests; a full queue is no reason to say no."""
        return self._thread.is_alive() and not self._closing

    def info(self) -> inference_pb2.InfoResponse:
        """What runs here."""
        return self.engine.info

    async def generate(
        self, request: inference_pb2.GenerateRequest
    ) -> AsyncGenerator[inference_pb2.GenerateChunk, None]:
        """The first text at once, then what was decoded since, every `flush_interval_s`; the finish last.

        Closing the iterator, or cancelling the task that awaits it, stops the generation before its next step,
        or takes it from the queue. Raises `TreniError`: INVALID_ARGUMENT, RESOURCE_EXHAUSTED when the queue is
        full, UNAVAILABLE while closing, and what `Engine.generate` raises.
        """
        arrived_s = time.perf_counter()
        chunks = _Chunks(self._flush_interval_s)
        generation = self.engine.start(request, chunks, arrived_s=arrived_s)
        with self._changed:
            self._check_room()
            self._generations.add(generation)
        submitted = False
        try:
            if request.ByteSize() > LARGE_BYTES or is_held(request):
                await self._prepare(generation)
            if not generation.over:
                with self._changed:
                    self.engine.scheduler.submit(generation)
                    submitted = True
                    self._changed.notify()
            while (chunk := await chunks.next()) is not None:
                yield chunk
                if tracing.tracer() is not None and chunk.HasField("finish"):
                    spent = {stage: getattr(generation.stages, stage) for stage in (*STAGES, HAND_OVER)}
                    spans.generation(chunk.finish, arrived_s=arrived_s, spent=spent)
        finally:
            generation.cancel(cancelled())
            if self.engine.scheduler.withdraw(generation) or not (submitted or generation.over):
                generation.fail(cancelled())
            with self._changed:
                self._generations.discard(generation)

    async def _prepare(self, generation: Generation) -> None:
        """Tokenises beside the engine, one request at a time; who leaves before his turn costs nothing."""
        self._preparing += 1
        try:
            await asyncio.get_running_loop().run_in_executor(self._preparers, generation.prepare)
        except Exception as error:
            generation.fail(error if isinstance(error, TreniError) else unexpected(error))
        finally:
            self._preparing -= 1

    async def embed(self, request: inference_pb2.EmbedRequest) -> inference_pb2.EmbedResponse:
        """The embeddings of the request's texts as `Engine.embeddings` gives them, bounded with the generations."""
        self.engine.check_embed(request)
        job = _Embedding(self.engine, request)
        with self._changed:
            self._check_room()
            self._embeddings.append(job)
            self._changed.notify()
        try:
            response = await job.mailbox.next()
        finally:
            job.cancel(cancelled())
        assert response is not None
        return response

    @property
    def _waiting(self) -> int:
        """Requests that wait, or prepare to, although every free row were given away.

        Counted by what was let in and is not over: what the engine's own lists say of a request is in neither of them
        for a moment, on its way from one to the next.
        """
        submitted = sum(not generation.over for generation in self._generations) - self._preparing
        overdue = max(0, submitted - self.engine.scheduler.max_rows)
        return overdue + self._preparing + len(self._embeddings)

    def _check_room(self) -> None:
        error: TreniError | None = None
        if self._closing:
            error = _shutting_down(definite=True)
        elif self._waiting >= self._max_queue:
            error = TreniError(
                Code.RESOURCE_EXHAUSTED,
                "queue_full",
                expected=f"at most {self._max_queue} requests waiting for the engine",
                got="one more",
                todo="send fewer at once, or retry after a backoff",
            )
        if error is not None:
            if self.engine.observer is not None:
                self.engine.observer.ended(error)
            raise error

    def _work(self) -> None:
        """The engine thread."""
        scheduler = self.engine.scheduler
        unprepared = True
        while True:
            with self._changed:
                awoken = self._changed.wait_for(
                    lambda: scheduler.queued or self._embeddings or self._closing,
                    IDLE_S if unprepared else None,
                )
                if self._closing and not scheduler.queued and not self._embeddings:
                    return
            if not awoken:
                try:
                    unprepared = scheduler.prepare()
                except Exception:  # who needs what could not be prepared will be told
                    unprepared = False
                continue
            busy = True
            while busy:
                try:
                    busy = scheduler.step()
                except Exception as error:  # an engine thread that dies would hang every later request
                    scheduler.abandon(unexpected(error))
                if self._embeddings:
                    self._embed_one()
                    busy = True

    def _embed_one(self) -> None:
        """The next text of the request that has waited longest."""
        job = self._embeddings[0]
        if job.step():
            self._embeddings.popleft()


class _Mailbox(Generic[T]):
    """From the engine thread to one asyncio task: items, then None or the error that ended it."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        # Holds one answer at most, which max_new_tokens and the context length bound.
        self._ready: asyncio.Queue[T | TreniError | None] = asyncio.Queue()

    async def next(self) -> T | None:
        """The next item; None after the last. Raises the error."""
        item = await self._ready.get()
        if isinstance(item, TreniError):
            raise item
        return item

    def put(self, item: T | TreniError | None) -> None:
        """From any thread."""
        with suppress(RuntimeError):  # the reader's event loop is closed: there is nobody left to tell
            self._loop.call_soon_threadsafe(self._ready.put_nowait, item)


class _Chunks:
    """A listener for one asyncio task: hands over the first text at once, later ones `interval_s` apart."""

    def __init__(self, interval_s: float) -> None:
        self._mailbox: _Mailbox[inference_pb2.GenerateChunk] = _Mailbox()
        self._interval_s = interval_s
        self._held: list[str] = []
        self._due_s = -math.inf

    async def next(self) -> inference_pb2.GenerateChunk | None:
        """The next chunk; None after the last. Raises the error that ended the generation."""
        return await self._mailbox.next()

    def text(self, text: str) -> None:
        """See `Listener`."""
        self._held.append(text)
        if time.perf_counter() >= self._due_s:
            self._mailbox.put(inference_pb2.GenerateChunk(text=self._take()))
            self._due_s = time.perf_counter() + self._interval_s

    def finish(self, finish: inference_pb2.GenerateFinish, rest: str) -> None:
        """See `Listener`."""
        self._mailbox.put(inference_pb2.GenerateChunk(text=self._take() + rest, finish=finish))
        self._mailbox.put(None)

    def fail(self, error: TreniError) -> None:
        """See `Listener`."""
        self._mailbox.put(error)

    def _take(self) -> str:
        text = "".join(self._held)
        self._held.clear()
        return text


class _Embedding:
    """One request for embeddings, text by text."""

    def __init__(self, engine: Engine, request: inference_pb2.EmbedRequest) -> None:
        self.mailbox: _Mailbox[inference_pb2.EmbedResponse] = _Mailbox()
        self.begun = False
        self._cancelled: TreniError | None = None
        self._response = inference_pb2.EmbedResponse()
        self._vectors = engine.embeddings(request, check=self._check)

    def cancel(self, reason: TreniError) -> None:
        """From any thread: stop before the next chunk of tokens. The first reason counts."""
        if self._cancelled is None:
            self._cancelled = reason

    def step(self) -> bool:
        """On the engine thread: embeds one text; whether that was the end of it. Never raises."""
        self.begun = True
        try:
            self._check()
            vector = next(self._vectors, None)
        except TreniError as error:
            self.mailbox.put(error)
            return True
        except Exception as error:
            self.mailbox.put(unexpected(error))
            return True
        if vector is None:
            self.mailbox.put(self._response)
            return True
        self._response.embeddings.append(vector)
        return False

    def _check(self) -> None:
        if self._cancelled is not None:
            raise self._cancelled


def _shutting_down(*, definite: bool) -> TreniError:
    return TreniError(
        Code.UNAVAILABLE,
        "shutting_down",
        expected="a running engine",
        got="one that is closing",
        todo="send the request to another instance, or later",
        definite=definite,
    )

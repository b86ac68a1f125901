"""Sends a run's events while the run goes on."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

from treni.v1 import agent_pb2


class Outbox:
    """Writes events in order, in a task beside its owner's, so that a run awaits its hops and not its client.

    What arrives while a write is under way waits; text joins the text already waiting. So a slow client gets
    fewer and longer deltas, and what waits is never more than one answer. Leaving the `async with` block drops
    what is left: call `flush` before.
    """

    def __init__(self, write: Callable[[agent_pb2.RunEvent], Awaitable[None]]) -> None:
        self._write = write
        self._waiting: deque[agent_pb2.RunEvent | list[str]] = deque()
        self._writing: asyncio.Task[None] | None = None

    def put(self, event: agent_pb2.RunEvent) -> None:
        """Sends `event` after those before it."""
        waiting = self._waiting
        if not event.HasField("text"):
            waiting.append(event)
        elif waiting and isinstance(last := waiting[-1], list):
            last.append(event.text.text)
        else:
            waiting.append([event.text.text])
        if self._writing is None:
            self._writing = asyncio.create_task(self._write_waiting())

    async def flush(self) -> None:
        """Returns when everything is written. Raises what a write raised."""
        if self._writing is not None:
            await self._writing

    async def _write_waiting(self) -> None:
        while self._waiting:
            first = self._waiting.popleft()
            await self._write(text_event("".join(first)) if isinstance(first, list) else first)
        # Not in a `finally`: after an error the task stays, nothing more is written, and `flush` raises.
        self._writing = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writing is not None:
            self._writing.cancel()
            await asyncio.gather(self._writing, return_exceptions=True)


def text_event(text: str) -> agent_pb2.RunEvent:
    """The event of a run in which the model says the text."""
    event = agent_pb2.RunEvent()
    event.text.text = text
    return event

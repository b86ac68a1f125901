"""Time as the loop sees it: a clock that tests can replace, and a deadline that only ever shrinks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Clock:
    """A monotonic time in seconds, and a way to wait on it."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep


SYSTEM_CLOCK = Clock()


@dataclass(frozen=True, kw_only=True, slots=True)
class Deadline:
    """The moment `at_s` on `clock` after which nobody waits for the result any more.

    It is set once, where a run begins, and from there can only be brought forward.
    """

    at_s: float
    clock: Clock = SYSTEM_CLOCK

    @classmethod
    def after(cls, seconds: float, *, clock: Clock = SYSTEM_CLOCK) -> Deadline:
        """The deadline `seconds` from now."""
        return cls(at_s=clock.now() + seconds, clock=clock)

    def remaining_s(self) -> float:
        """Seconds left, 0 when it has passed."""
        return max(0.0, self.at_s - self.clock.now())

    @property
    def expired(self) -> bool:
        """Whether it has passed."""
        return self.clock.now() >= self.at_s

    def within(self, timeout_s: float) -> Deadline:
        """The deadline `timeout_s` from now, or this one where it is sooner."""
        return Deadline(at_s=min(self.at_s, self.clock.now() + timeout_s), clock=self.clock)

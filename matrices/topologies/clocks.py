"""How another process's clocks lie to ours, by the quickest of many small exchanges (RFC 5905, section 8)."""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from matrices.evidence import events as ev
from treni.v1 import evidence_pb2

EXCHANGES = 32
"""How often a clock is asked for one estimate: whoever waits in some queue on the way does not do so each time."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Exchange:
    """One question and its answer: when it was sent and was back by our monotonic clock, and the other side's readings.

    `ours_s` is what has to be added to our monotonic clock to get our wall clock.
    """

    sent_s: float
    back_s: float
    ours_s: float
    told: evidence_pb2.ClockResponse

    @property
    def way_s(self) -> float:
        """Seconds on the way, there and back, without what the other side took to answer."""
        return max(0.0, self.back_s - self.sent_s - (self.told.sent_mono_s - self.told.received_mono_s))

    @property
    def steady_offset_s(self) -> float:
        """What has to be added to our monotonic clock to get the other one, if both ways take equally long."""
        return (self.told.received_mono_s - self.sent_s + self.told.sent_mono_s - self.back_s) / 2

    @property
    def offset_s(self) -> float:
        """The same for the wall clocks."""
        there_s = self.told.received_wall_s - self.sent_s + self.told.sent_wall_s - self.back_s
        return there_s / 2 - self.ours_s


async def exchange(
    ask: Callable[[], Awaitable[evidence_pb2.ClockResponse]], *, times: int = EXCHANGES
) -> list[Exchange]:
    """Asks so many times, one after the other; each with its moments. Raises whatever `ask` raises."""
    made = []
    ours_s = time.time() - time.monotonic()
    for _ in range(times):
        sent_s = time.monotonic()
        told = await ask()
        made.append(Exchange(sent_s=sent_s, back_s=time.monotonic(), ours_s=ours_s, told=told))
    return made


def estimate(exchanges: Iterable[Exchange]) -> ev.Clock:
    """The offsets by the exchange with the shortest way, known to half of it: unequal ways hide no more."""
    every = list(exchanges)
    best = min(every, key=lambda one: one.way_s)
    return ev.Clock(
        offset_s=round(best.offset_s, 6),
        steady_offset_s=round(best.steady_offset_s, 6),
        error_s=math.ceil(best.way_s / 2 * 1e6) / 1e6,
        at_s=round((best.sent_s + best.back_s) / 2, 6),
        exchanges=len(every),
    )

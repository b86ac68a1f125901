"""`python -m tests.runtime_svc.http_front.fuzz`: hostile requests by the thousand while a good client works.

It ends with 0 where every one was answered in typed words or had left, the server runs on with its memory back and its
slots free, and the good client has lost nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import time
from collections import Counter
from dataclasses import dataclass, field

import httpx
import psutil
from prometheus_client.parser import text_string_to_metric_families

from tests.limits import HANG_S
from tests.runtime_svc.http_front.front import Front, served
from tests.runtime_svc.http_front.hostile import good, hostile

AT_ONCE = 16
WARM = 200
"""Hostile requests before memory is looked at: what a server keeps for any such request is no leak."""

MEMORY = 1.1
"""Of what was in use before, what may be in use after."""


@dataclass(kw_only=True, slots=True)
class Fuzzed:
    """What was sent and told, by kind and status; what the good client got meanwhile; the server's memory."""

    told: Counter[tuple[str, int]] = field(default_factory=Counter)
    good: int = 0
    before_bytes: int = 0
    after_bytes: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        lines = [
            f"{kind:12} {status or '-':>4} {count:6}" for (kind, status), count in sorted(self.told.items())
        ]
        ratio = self.after_bytes / self.before_bytes
        return "\n".join(
            [
                *lines,
                f"{sum(self.told.values())} hostile requests and {self.good} good ones in {self.seconds:.0f} s",
                f"memory {self.before_bytes / 1e6:.1f} MB before, {self.after_bytes / 1e6:.1f} MB after: {ratio:.3f}",
            ]
        )


async def fuzz(front: Front, requests: int, seed: int) -> Fuzzed:
    """Sends them and holds the server to what it promises. Raises AssertionError where it breaks it."""
    process = psutil.Process(front.pid)
    fuzzed = Fuzzed()
    await _hostile(front, WARM, seed + 1, Counter())
    await _quiet(front)
    fuzzed.before_bytes = await _settled(process, 0)
    stop = asyncio.Event()
    begun_s = time.monotonic()
    async with asyncio.TaskGroup() as group:
        working = group.create_task(_work(front, stop))
        await _hostile(front, requests, seed, fuzzed.told)
        stop.set()
    fuzzed.good = working.result()
    fuzzed.seconds = time.monotonic() - begun_s
    await _quiet(front)
    fuzzed.after_bytes = await _settled(process, int(fuzzed.before_bytes * MEMORY))
    assert fuzzed.after_bytes <= fuzzed.before_bytes * MEMORY, f"memory has not come back:\n{fuzzed}"
    return fuzzed


async def _hostile(front: Front, requests: int, seed: int, told: Counter[tuple[str, int]]) -> None:
    numbers = iter(range(requests))

    async def some() -> None:
        for number in numbers:
            told[await hostile(front.http, random.Random(f"{seed}/{number}"))] += 1

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(some())


async def _work(front: Front, stop: asyncio.Event) -> int:
    """The good client: asks the same over and over, and gets the same; how often."""
    # A call is written over several lines, before any of which the text would stop.
    body, first, count = good() | {"max_tokens": 30, "stop": None}, None, 0
    async with httpx.AsyncClient(timeout=HANG_S) as client:
        while not stop.is_set():
            answer = await client.post(f"{front.http}/v1/chat/completions", json=body)
            assert answer.status_code == 200, f"a good request was lost: {answer.text}"
            message = answer.json()["choices"][0]["message"]
            said = [call["function"] for call in message["tool_calls"]]
            first = said if first is None else first
            assert said == first, "a good request was answered otherwise than before"
            count += 1
    return count


async def _quiet(front: Front) -> None:
    """Returns when every slot is free and nobody waits."""
    async with httpx.AsyncClient(timeout=HANG_S) as client, asyncio.timeout(HANG_S):
        busy = True
        while busy:
            page = (await client.get(f"{front.http}/metrics")).text
            values = {
                sample.name: sample.value
                for family in text_string_to_metric_families(page)
                for sample in family.samples
            }
            busy = bool(values["treni_runtime_slots_in_use"] or values["treni_runtime_queue_depth"])


async def _settled(process: psutil.Process, most_bytes: int) -> int:
    """Bytes in use once they are under a bound, or have stopped to fall."""
    rss = process.memory_info().rss
    for _ in range(8):
        if rss <= most_bytes:
            return rss
        await asyncio.sleep(5.5)  # free memory goes back to the system at intervals: treni/memory.py
        before, rss = rss, process.memory_info().rss
        if not most_bytes and abs(before - rss) < before * 0.01:
            return rss
    return rss


def main() -> None:
    """Fuzzes a server of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    with served() as front:
        print(asyncio.run(fuzz(front, asked.requests, asked.seed)))


if __name__ == "__main__":
    main()

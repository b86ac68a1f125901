"""`python -m tests.runtime_svc.attacks.fuzz`: hostile requests over both fronts by the thousand, beside good clients.

It ends with 0 where every one was answered in typed words, refused at the door, or had left; the process is the same
and its memory back, its slots free; and the good clients have lost nothing. Half of them come to an open server, half
to one behind keys and certificates.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import tempfile
import time
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from prometheus_client.parser import text_string_to_metric_families

from tests.limits import HANG_S
from tests.runtime_svc.attacks import good, over_grpc, over_http
from tests.runtime_svc.attacks.target import Target, target
from treni.memory import LOOK_EVERY_S

AT_ONCE = 16
WARM = 300
"""Hostile requests before memory is looked at, beside some of each kind, when every slot has been full: what a server
keeps for any such request is no leak."""

OF_EACH = 3

MEMORY = 1.1
"""Of what was in use before, what may be in use after."""


@dataclass(kw_only=True, slots=True)
class Fuzzed:
    """What was sent and told, by front, kind and words; what good clients got meanwhile; the server's memory."""

    door: str
    told: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    good: list[good.Good] = field(default_factory=list)
    before_bytes: int = 0
    after_bytes: int = 0
    settled_s: float = 0.0
    seconds: float = 0.0

    @property
    def sent(self) -> int:
        """How many were hostile."""
        return sum(self.told.values())

    def __str__(self) -> str:
        lines = [f"{self.door} door", f"{'front':6}{'what was sent':22}{'what came back':46}{'times':>6}"]
        lines += [
            f"{front:6}{kind:22}{told:46}{count:6}"
            for (front, kind, told), count in sorted(self.told.items())
        ]
        answered = ", ".join(f"{one.answered} over {one.front}" for one in self.good)
        return "\n".join(
            [
                *lines,
                f"{self.sent} hostile requests in {self.seconds:.0f} s; good ones answered as alone: {answered}",
                f"memory {self.before_bytes / 1e6:.1f} MB before, {self.after_bytes / 1e6:.1f} MB "
                f"{self.settled_s:.0f} s after: {self.after_bytes / self.before_bytes:.3f}",
            ]
        )


async def fuzz(
    attacked: Target,
    requests: int,
    seed: int,
    *,
    warm: int = WARM,
    of_each: int = OF_EACH,
    patient: bool = True,
) -> Fuzzed:
    """Sends them and holds the server to what it promises. Raises AssertionError where it breaks it.

    Before memory is looked at come `warm` others and some `of_each` kind. Who is not `patient` does not wait
    for it to fall further once there is as little as is promised.
    """
    process = psutil.Process(attacked.front.pid)
    fuzzed = Fuzzed(door="locked" if attacked.locked else "open")
    await good.fill(attacked)
    begin, stop = asyncio.Barrier(len(good.CLIENTS) + 1), asyncio.Event()
    async with asyncio.TaskGroup() as group:
        working = [group.create_task(good.work(attacked, front, begin, stop)) for front in good.CLIENTS]
        await begin.wait()
        await _hostile(attacked, warm, f"warm {seed}", Counter(), each=of_each)
        await _quiet(attacked)
        fuzzed.before_bytes = await _settled(process)
        begun_s = time.monotonic()
        await _hostile(attacked, requests, f"{seed}", fuzzed.told)
        fuzzed.seconds = time.monotonic() - begun_s
        stop.set()
    fuzzed.good = [one.result() for one in working]
    await _quiet(attacked)
    begun_s = time.monotonic()
    fuzzed.after_bytes = await _settled(process, 0 if patient else int(fuzzed.before_bytes * MEMORY))
    fuzzed.settled_s = time.monotonic() - begun_s
    assert process.is_running(), "the server is another process than before"
    assert fuzzed.sent == requests
    assert fuzzed.after_bytes <= fuzzed.before_bytes * MEMORY, f"memory has not come back:\n{fuzzed}"
    return fuzzed


async def _hostile(
    attacked: Target, requests: int, seed: str, told: Counter[tuple[str, str, str]], *, each: int = 0
) -> None:
    """Sends as many as asked for, drawn by their weights, and before them some of `each` kind."""
    async with AsyncExitStack() as stack:
        line = await stack.enter_async_context(over_grpc.line(attacked))
        kinds = {
            **{("http", kind): often for kind, (_, often) in over_http.KINDS.items()},
            **{("grpc", kind): often for kind, (_, often) in over_grpc.KINDS.items()},
        }
        if attacked.locked:
            kinds |= {("http", over_http.WITHOUT_KEY[0]): 10, ("grpc", over_grpc.WITHOUT_KEY[0]): 10}
            kinds |= {(front, kind): 3 for front in good.CLIENTS for kind in attacked.refused}
        drawn = random.Random(seed)
        numbered = enumerate([*([*kinds] * each), *drawn.choices([*kinds], [*kinds.values()], k=requests)])

        async def some() -> None:
            for number, (front, kind) in numbered:
                one = random.Random(f"{seed}/{number}")
                if kind in attacked.refused:
                    knock = over_http.knock if front == "http" else over_grpc.knock
                    said = await knock(attacked, attacked.refused[kind])
                elif front == "http":
                    said = await over_http.attack(attacked, kind, one)
                else:
                    said = await over_grpc.attack(line, kind, one)
                told[front, kind, said] += 1

        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(some())


async def _quiet(attacked: Target) -> None:
    """Returns when every slot is free and nobody waits."""
    async with asyncio.timeout(HANG_S), good.http(attacked) as client:
        busy = True
        while busy:
            page = (await client.get("/metrics")).text
            values = {
                sample.name: sample.value
                for family in text_string_to_metric_families(page)
                for sample in family.samples
            }
            busy = bool(values["treni_runtime_slots_in_use"] or values["treni_runtime_queue_depth"])


async def _settled(process: psutil.Process, most_bytes: int = 0) -> int:
    """Bytes in use once they are under a bound, or where there is none have stopped to fall."""
    rss = process.memory_info().rss
    for _ in range(8):
        if rss <= most_bytes:
            return rss
        await asyncio.sleep(LOOK_EVERY_S + 0.5)  # when free memory has gone back to the system
        before, rss = rss, process.memory_info().rss
        if not most_bytes and abs(before - rss) < before * 0.01:
            return rss
    return rss


def main() -> None:
    """Fuzzes an open server of its own, and then one behind a door."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    for locked, requests in ((False, asked.requests // 2), (True, asked.requests - asked.requests // 2)):
        with tempfile.TemporaryDirectory() as folder, target(Path(folder), locked=locked) as attacked:
            print(asyncio.run(fuzz(attacked, requests, asked.seed)), flush=True)


if __name__ == "__main__":
    main()

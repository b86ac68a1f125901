"""`python -m deploy.overhead.caller SETTINGS`: times the calls beside each other, one of each in turn."""

from __future__ import annotations

import asyncio
import json
import random
import statistics
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from deploy.overhead.calls import opened

_WARM_ROUNDS = 20


async def measure(targets: Mapping[str, str], *, rounds: int, repeats: int) -> dict[str, list[float]]:
    """The median seconds of each call in each repeat, which has connections of its own."""
    medians: dict[str, list[float]] = {}
    order = random.Random(0)
    with tempfile.TemporaryDirectory(prefix="overhead-") as scratch:
        for _ in range(repeats):
            async with opened(targets, Path(scratch)) as calls:
                samples: dict[str, list[float]] = {name: [] for name in calls}
                for number in range(-_WARM_ROUNDS, rounds):
                    # Who comes after whom changes from round to round, so that nobody always pays for another.
                    for name in order.sample(list(calls), len(calls)):
                        took_s = await calls[name]()
                        if number >= 0:
                            samples[name].append(took_s)
            for name, of in samples.items():
                medians.setdefault(name, []).append(statistics.median(of))
    return medians


if __name__ == "__main__":
    settings = json.loads(sys.argv[1])
    found = asyncio.run(measure(settings["targets"], rounds=settings["rounds"], repeats=settings["repeats"]))
    print(json.dumps(found))

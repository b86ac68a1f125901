"""Many streams at once: what each said, and when its first text came."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import openai

from runtime_svc.core import InferenceCore
from tests.places import ROOT
from tests.runtime_svc.http_front.front import TOOLS, asking
from tests.runtime_svc.http_front.sockets import post, wire


@dataclass(frozen=True, kw_only=True, slots=True)
class Streamed:
    """What a stream said and called, and the seconds to its first event."""

    said: str
    ttft_s: float


def prompts(count: int) -> list[str]:
    """The first prompts of the bundled suites."""
    lines = [
        line
        for suite in ("core", "tool_only", "chains")
        for line in (ROOT / "matrices" / "suites" / f"{suite}.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    return [json.loads(line)["prompt"] for line in lines[:count]]


async def streamed(client: openai.AsyncOpenAI, body: dict[str, Any]) -> Streamed:
    """One answer, as it streams."""
    sent_s = time.perf_counter()
    first_s: float | None = None
    said: list[str] = []
    async for chunk in await client.chat.completions.create(**body, stream=True):
        first_s = time.perf_counter() if first_s is None else first_s
        delta = chunk.choices[0].delta
        said.append(delta.content or "")
        said += [
            f"{call.function.name}({call.function.arguments})"
            for call in delta.tool_calls or ()
            if call.function
        ]
    assert first_s is not None
    return Streamed(said="".join(said), ttft_s=first_s - sent_s)


async def at_once(url: str, count: int) -> tuple[Sequence[Streamed], Sequence[Streamed]]:
    """The same requests one at a time, and all at once."""
    async with openai.AsyncOpenAI(
        base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=None
    ) as client:
        bodies = [asking(prompt, tools=TOOLS) for prompt in prompts(count)]
        alone = [await streamed(client, body) for body in bodies]
        return alone, await asyncio.gather(*(streamed(client, body) for body in bodies))


async def leave(url: str, core: InferenceCore, bodies: Sequence[dict[str, Any]], *, seed: int) -> list[float]:
    """Sends each body and leaves at a random moment of its answer; the seconds until every slot was free, each time."""
    drawn = random.Random(seed)
    waits: list[float] = []
    for body in bodies:
        async with wire(url) as client:
            await client.send(post(body))
            if drawn.random() < 0.5:
                await client.reader.read(drawn.randint(1, 4000))
            else:
                await asyncio.sleep(drawn.random() * 0.05)
        left_s = time.perf_counter()
        while core._generations or core.engine.scheduler.slots.in_use:  # noqa: ASYNC110 - the core tells nobody
            await asyncio.sleep(0.001)
        waits.append(time.perf_counter() - left_s)
    return waits

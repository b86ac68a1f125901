"""The same request over each front, and the engine's own account of how long it took."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import Protocol

import grpc
import httpx

from runtime_svc.bench.contender import Failed
from runtime_svc.core import InferenceCore
from treni.metrics import Page
from treni.v1 import common_pb2, inference_pb2, inference_pb2_grpc

TOKENS = 12
"""The most tokens of an answer: few, so that what a front adds is not lost in what the engine takes."""

_ANSWERS = re.compile(r"^treni_runtime_answer_seconds_sum (\S+)$", re.MULTILINE)


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """A request's time at the client, and of it the engine's from arrival to finish; seconds."""

    latency_s: float
    engine_s: float


class Clock(Protocol):
    """Who knows how long an engine has worked."""

    async def read(self) -> float:
        """The seconds that the engine has spent on answers so far, each from its arrival to its finish."""


class Caller(Protocol):
    """One way to reach an engine, and the clock of that engine."""

    name: str
    clock: Clock

    async def call(self, number: int) -> None:
        """Has the `number`-th prompt answered, to the last byte. Raises where it is not."""


async def timed(caller: Caller, number: int) -> Call:
    """A call beside which the engine does nothing else."""
    before_s = await caller.clock.read()
    began_s = time.perf_counter()
    await caller.call(number)
    latency_s = time.perf_counter() - began_s
    return Call(latency_s=latency_s, engine_s=await caller.clock.read() - before_s)


class PageClock:
    """Reads the metrics of the front at `url`."""

    def __init__(self, client: httpx.AsyncClient, url: str) -> None:
        self._client = client
        self._url = f"{url}/metrics"

    async def read(self) -> float:
        """The seconds of the answers, off the metrics page."""
        return _seconds((await self._client.get(self._url)).text)


class Bare:
    """An engine of this process, whose metrics these are, with no front."""

    name = "engine"

    def __init__(self, core: InferenceCore, metrics: Page) -> None:
        self.clock: Clock = self
        self._core = core
        self._metrics = metrics

    async def read(self) -> float:
        """The seconds of the answers, off the metrics themselves."""
        return _seconds(self._metrics.text().decode())

    async def call(self, number: int) -> None:
        """Has the prompt answered by the core, all chunks of it."""
        async for _ in self._core.generate(_request(number)):
            pass


class Grpc:
    """A caller of InferenceService.Generate over this channel."""

    name = "grpc"

    def __init__(self, channel: grpc.aio.Channel, clock: Clock) -> None:
        self.clock = clock
        self._stub = inference_pb2_grpc.InferenceServiceStub(channel)

    async def call(self, number: int) -> None:
        """Has the prompt answered by a stream, to its last message."""
        async for _ in self._stub.Generate(_request(number)):
            pass


class Http:
    """A caller of POST /v1/chat/completions at `url`, which streams the answer."""

    def __init__(self, name: str, client: httpx.AsyncClient, url: str, model: str, clock: Clock) -> None:
        self.name = name
        self.clock = clock
        self._client = client
        self._url = f"{url}/v1/chat/completions"
        self._model = model

    async def call(self, number: int) -> None:
        """Has the prompt answered by events, up to [DONE]. Raises `Failed` where they end otherwise."""
        body = {
            "model": self._model,
            "messages": [{"role": "user", "content": _prompt(number)}],
            "max_tokens": TOKENS,
            "stream": True,
        }
        async with self._client.stream("POST", self._url, json=body) as response:
            last = b""
            async for data in response.aiter_bytes():
                last = data or last
        if response.status_code != 200 or b"data: [DONE]" not in last:
            raise Failed(f"{self.name}: status {response.status_code}, which ends in {last[-200:]!r}")


def _prompt(number: int) -> str:
    return f"Say something about {abs(number) % 90 + 10}."


def _request(number: int) -> inference_pb2.GenerateRequest:
    return inference_pb2.GenerateRequest(
        messages=[common_pb2.Message(role="user", content=_prompt(number))],
        sampling=common_pb2.Sampling(max_new_tokens=TOKENS),
    )


def _seconds(page: str) -> float:
    found = _ANSWERS.search(page)
    assert found is not None, "the page has this counter"
    return float(found[1])

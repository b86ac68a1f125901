"""Two thousand hostile calls against a real server process: typed errors only, and its memory is what it was."""

import asyncio
import math
import random
from collections.abc import AsyncIterable, Iterable
from pathlib import Path

import grpc
import psutil
import pytest

from tests.runtime_svc.processes import runtime
from tests.runtime_svc.requests import Settings, generate_request, message, tool
from treni import metadata
from treni.errors import Code, TreniError, from_rpc_error
from treni.v1 import inference_pb2, inference_pb2_grpc

CALLS, AT_ONCE = 2000, 16
GENERATE = "/treni.v1.InferenceService/Generate"
BAD = (math.nan, math.inf, -math.inf, -1.0, 1e-45)
BIG = {"x": "x" * 10_000_000, "too long": "word " * 500, "64 kB": "word " * 14_000}


class Client:
    """Hostile calls, each drawn from a seeded source; what became of them, by kind of call."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = inference_pb2_grpc.InferenceServiceStub(channel)
        self._raw: grpc.aio.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream(GENERATE)
        self.outcomes: dict[str, list[TreniError | None]] = {}

    async def call(self, number: int) -> None:
        chance = random.Random(number)
        kinds = (self.noise, self.mutated, self.numbers, self.large, self.deserter, self.late, self.embed)
        kind = chance.choices(kinds, weights=(25, 25, 20, 3, 15, 5, 7))[0]
        outcome = None
        try:
            await kind(chance)
        except grpc.aio.AioRpcError as error:
            outcome = from_rpc_error(error, hop="model")
        self.outcomes.setdefault(kind.__name__, []).append(outcome)

    async def noise(self, chance: random.Random) -> None:
        """Bytes that are hardly ever a message."""
        await self._finish(self._raw(chance.randbytes(chance.randrange(1, 300))))

    async def mutated(self, chance: random.Random) -> None:
        """A good message with a few bytes changed."""
        good = generate_request("Hello there", message("{}", role="tool"), tools=[tool()], max_new_tokens=3)
        data = bytearray(good.SerializeToString())
        for _ in range(chance.randrange(1, 6)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        await self._finish(self._raw(bytes(data)))

    async def numbers(self, chance: random.Random) -> None:
        """Sampling settings that are no settings, or are extreme."""
        sampling: Settings = {
            "temperature": chance.choice((*BAD, 3e38)),
            "top_p": chance.choice((*BAD, 0.0, 1e-30)),
            "top_k": chance.choice((0, 2**32 - 1)),
            "max_new_tokens": chance.choice((3, 2**32 - 1)),
        }
        await self._finish(self._stub.Generate(generate_request("Hello", **sampling)))

    async def large(self, chance: random.Random) -> None:
        """Prompts past the message, the text or the context limit."""
        await self._finish(self._stub.Generate(generate_request(chance.choice(list(BIG.values())))))

    async def deserter(self, chance: random.Random) -> None:
        """Leaves in mid-stream, or before."""
        key = chance.choice(("", "a", f"{chance.random()}"))
        call = self._stub.Generate(generate_request("Go on", "word " * 40, cache_key=key, max_new_tokens=200))
        for _ in range(chance.randrange(3)):
            await call.read()
        call.cancel()

    async def late(self, chance: random.Random) -> None:
        """Comes with a deadline that is over, or will be at once."""
        await self._finish(
            self._stub.Generate(
                generate_request("Go on", max_new_tokens=200), timeout=chance.choice((0, 0.002))
            )
        )

    async def embed(self, chance: random.Random) -> None:
        """Texts that are none, or too many, or too long."""
        texts = chance.choice(([], [""], ["x"] * 300, ["word " * 500], ["y" * 70_000], ["fine", "\x00"]))
        await self._stub.Embed(inference_pb2.EmbedRequest(texts=texts))

    async def _finish(self, call: AsyncIterable[object]) -> None:
        async for _ in call:
            pass


async def attack(client: Client, numbers: Iterable[int]) -> None:
    numbers = iter(numbers)

    async def worker() -> None:
        for number in numbers:
            await client.call(number)

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(worker())


@pytest.mark.slow
async def test_two_thousand_hostile_calls(random_directory: Path) -> None:
    async with (
        # Slots grow to what their sequences need: few enough that the first calls have used them all.
        runtime(random_directory, "--slots", "16") as (ready, process),
        grpc.aio.insecure_channel(ready["address"], options=metadata.CHANNEL_OPTIONS) as channel,
    ):
        server = psutil.Process(process.pid)
        probe = generate_request("Hello", temperature=1.0, seed=1, max_new_tokens=20)
        stub = inference_pb2_grpc.InferenceServiceStub(channel)

        async def answer() -> inference_pb2.GenerateFinish:
            *_, last = [chunk async for chunk in stub.Generate(probe)]
            return last.finish

        expected = await answer()
        await attack(Client(channel), range(-400, 0))  # everything has been allocated once
        before = server.memory_info().rss
        client = Client(channel)
        await attack(client, range(CALLS))
        after = server.memory_info().rss
        assert list((await answer()).tokens) == list(expected.tokens)
    print(f"RSS {before / 2**20:.1f} MiB before, {after / 2**20:.1f} after: {after / before - 1:+.2%}")
    assert after <= 1.05 * before

    outcomes = client.outcomes
    assert sum(map(len, outcomes.values())) == CALLS
    codes = {
        name: {None if error is None else error.code for error in errors} for name, errors in outcomes.items()
    }
    refused = {Code.INVALID_ARGUMENT}
    assert codes["noise"] <= refused | {None}
    assert codes["mutated"] <= refused | {None}
    assert codes["numbers"] == refused | {None}
    assert codes["large"] == refused | {Code.RESOURCE_EXHAUSTED}
    assert codes["deserter"] == {None}
    assert codes["late"] <= {Code.DEADLINE_EXCEEDED, None}
    assert codes["embed"] == refused | {None}
    for errors in outcomes.values():
        for error in errors:
            if error is not None and error.code is Code.INVALID_ARGUMENT:
                assert error.definite
                assert error.kind != "invalid_argument"

"""Many requests at once through the async front and over sockets."""

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterable, Callable
from contextlib import aclosing
from pathlib import Path
from typing import NoReturn, TypeVar

import grpc
import pytest

from runtime_svc import server
from runtime_svc.core import InferenceCore
from runtime_svc.engine import Engine
from tests.runtime_svc.brake import Brake
from tests.runtime_svc.requests import generate_request
from treni import metadata
from treni.errors import Code, TreniError
from treni.v1 import inference_pb2, inference_pb2_grpc

T = TypeVar("T")

STREAMS, CANCELLATIONS = 16, 100


@pytest.fixture(scope="module")
def engine(random_directory: Path) -> Engine:
    return Engine.load(random_directory, max_rows=STREAMS)


async def collect(chunks: AsyncIterable[T]) -> list[T]:
    return [chunk async for chunk in chunks]


def request_of(index: int) -> inference_pb2.GenerateRequest:
    return generate_request(f"{index} " + "word " * (index * 7 % 60), max_new_tokens=10 + index * 11 % 60)


@pytest.mark.parametrize("over_sockets", [False, True])
async def test_sixteen_streams_and_a_hundred_random_cancellations(engine: Engine, over_sockets: bool) -> None:
    expected = {i: list(engine.generate(request_of(i)))[-1].finish.tokens for i in range(40)}
    left = [CANCELLATIONS]
    answered = []

    async def stream(
        generate: Callable[
            [inference_pb2.GenerateRequest], AsyncGenerator[inference_pb2.GenerateChunk, None]
        ],
        number: int,
    ) -> None:
        """Cancels, at a random chunk, three answers of four while there are cancellations left."""
        chance = random.Random(number)
        for _ in range(10):
            index = chance.randrange(40)
            patience = chance.randrange(6) if left[0] > 0 and chance.random() < 0.75 else None
            left[0] -= patience is not None
            async with aclosing(generate(request_of(index))) as chunks:
                async for chunk in chunks:
                    if patience == 0:
                        break
                    patience = None if patience is None else patience - 1
                    if chunk.HasField("finish"):
                        assert list(chunk.finish.tokens) == list(expected[index])
                        answered.append(index)

    async with InferenceCore(engine, flush_interval_s=0.0) as core:
        running = await server.start(core)
        async with grpc.aio.insecure_channel(running.address, options=metadata.CHANNEL_OPTIONS) as channel:
            stub = inference_pb2_grpc.InferenceServiceStub(channel)

            async def over_grpc(
                request: inference_pb2.GenerateRequest,
            ) -> AsyncGenerator[inference_pb2.GenerateChunk, None]:
                call = stub.Generate(request)
                try:
                    async for chunk in call:
                        yield chunk
                finally:
                    call.cancel()

            generate = over_grpc if over_sockets else core.generate
            await asyncio.gather(*(stream(generate, number) for number in range(STREAMS)))
        await running.stop(grace_s=0)
    assert left[0] <= 0
    assert len(answered) >= 10 * STREAMS - CANCELLATIONS - STREAMS
    assert (engine.scheduler.slots.in_use, engine.scheduler.queued) == (0, 0)


async def test_the_queue_is_bounded_beyond_the_rows(
    random_directory: Path, endless: inference_pb2.GenerateRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine.load(random_directory, max_rows=2)
    brake = Brake(engine, monkeypatch)
    brake.hold(after=50)
    async with InferenceCore(engine, max_queue=3) as core:
        open_ = [core.generate(endless) for _ in range(5)]
        first = [asyncio.ensure_future(anext(chunks)) for chunks in open_]
        await asyncio.wait(first[:2])
        await brake.standing()
        with pytest.raises(TreniError) as caught:
            await anext(core.generate(endless))
        assert (caught.value.code, caught.value.kind) == (Code.RESOURCE_EXHAUSTED, "queue_full")
        assert caught.value.definite
        for waiting in first[2:]:
            waiting.cancel()
        await asyncio.wait(first[2:])
        assert engine.scheduler.queued == 0
        for chunks in open_[:2]:
            await chunks.aclose()
        brake.release()


async def test_streams_go_on_while_texts_are_embedded(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    brake, done_by_step = Brake(engine, monkeypatch), []
    async with InferenceCore(engine, flush_interval_s=0.0) as core:
        embed_one = core._embed_one

        def watched() -> None:
            embed_one()
            done_by_step.append(brake.launches)

        monkeypatch.setattr(core, "_embed_one", watched)
        brake.hold(after=0)
        answer = asyncio.ensure_future(collect(core.generate(generate_request("Hello", max_new_tokens=8))))
        await brake.standing()
        texts = ["word " * 100] * 120
        embedding = asyncio.ensure_future(core.embed(inference_pb2.EmbedRequest(texts=texts)))
        await asyncio.sleep(0)
        brake.release()
        assert (await answer)[-1].finish.usage.completion_tokens == 8
        assert len((await embedding).embeddings) == len(texts)
    # One text between two steps, though all had come before the first.
    assert [done_by_step.count(step) for step in range(1, 7)] == [1] * 6


async def test_a_cancelled_embedding_stops_before_its_next_text(engine: Engine) -> None:
    async with InferenceCore(engine) as core:
        many = inference_pb2.EmbedRequest(texts=["word " * 100] * 120)
        embedding = asyncio.ensure_future(core.embed(many))
        await asyncio.sleep(0)
        embedding.cancel()
        with pytest.raises(asyncio.CancelledError):
            await embedding
        assert len((await core.embed(inference_pb2.EmbedRequest(texts=["x"]))).embeddings) == 1


async def test_the_engine_thread_outlives_a_failure_of_the_scheduler_itself(
    engine: Engine, endless: inference_pb2.GenerateRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    brake = Brake(engine, monkeypatch)
    brake.hold(after=50)
    async with InferenceCore(engine, flush_interval_s=0.0) as core:
        open_ = [core.generate(endless) for _ in range(3)]
        first = [asyncio.ensure_future(anext(chunks)) for chunks in open_]
        await asyncio.wait(first)
        await brake.standing()

        def broken(*arguments: object) -> NoReturn:
            raise RuntimeError("the sky fell")

        with monkeypatch.context() as patched:
            patched.setattr(engine.scheduler.slots, "append", broken)
            brake.release()
            for chunks in open_:
                with pytest.raises(TreniError) as caught:
                    await collect(chunks)
                assert (caught.value.code, caught.value.kind) == (Code.INTERNAL, "engine_failed")
        assert engine.scheduler.slots.in_use == 0
        answer = await collect(core.generate(generate_request("Hello", max_new_tokens=8)))
        assert answer[-1].finish.usage.completion_tokens == 8

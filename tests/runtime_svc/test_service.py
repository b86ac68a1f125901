"""The async front and the gRPC server, on a real engine and real sockets."""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import threading
from collections.abc import AsyncIterable, AsyncIterator, Callable
from pathlib import Path
from typing import TypeVar

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from runtime_svc import server
from runtime_svc.backends.numpy.runner import NumpyRunner
from runtime_svc.core import IDLE_S, InferenceCore
from runtime_svc.engine import Engine
from tests.limits import HANG_S, longer_and_longer
from tests.runtime_svc.brake import Brake, nobody_asks
from tests.runtime_svc.requests import generate_request
from treni import metadata
from treni.errors import Code, TreniError, from_rpc_error
from treni.v1 import inference_pb2, inference_pb2_grpc

T = TypeVar("T")


@pytest.fixture(scope="module")
def engine(random_directory: Path) -> Engine:
    """One row, so that every second request waits; test_batching.py has several."""
    return Engine.load(random_directory, max_rows=1)


@pytest.fixture
def brake(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Brake:
    return Brake(engine, monkeypatch)


@pytest.fixture
async def core(engine: Engine) -> AsyncIterator[InferenceCore]:
    async with InferenceCore(engine, max_queue=16) as running:
        yield running


@pytest.fixture
async def stub(core: InferenceCore) -> AsyncIterator[inference_pb2_grpc.InferenceServiceAsyncStub]:
    running = await server.start(core)

    async with grpc.aio.insecure_channel(running.address, options=metadata.CHANNEL_OPTIONS) as channel:
        yield inference_pb2_grpc.InferenceServiceStub(channel)
    await running.stop(grace_s=0)


async def collect(chunks: AsyncIterable[T]) -> list[T]:
    return [chunk async for chunk in chunks]


async def status_of(call: AsyncIterable[inference_pb2.GenerateChunk]) -> TreniError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await collect(call)
    return from_rpc_error(caught.value, hop="model")


async def test_core_gives_what_the_engine_gives(core: InferenceCore, engine: Engine) -> None:
    request = generate_request("Hello", temperature=1.0, seed=3, max_new_tokens=30)
    expected = list(engine.generate(request))[-1].finish
    chunks = await collect(core.generate(request))
    assert list(chunks[-1].finish.tokens) == list(expected.tokens)
    assert "".join(chunk.text for chunk in chunks) == expected.text


async def test_text_arrives_while_the_engine_decodes(
    core: InferenceCore, endless: inference_pb2.GenerateRequest
) -> None:
    async for chunk in core.generate(endless):
        assert not chunk.HasField("finish")
        break


async def test_requests_are_answered_in_order(core: InferenceCore) -> None:
    finished = []

    async def one(index: int) -> None:
        await collect(core.generate(generate_request(f"{index}", max_new_tokens=4)))
        finished.append(index)

    await asyncio.gather(*(one(index) for index in range(10)))
    assert finished == list(range(10))


async def test_queue_time_is_measured(core: InferenceCore, brake: Brake) -> None:
    request = generate_request("Hello", temperature=1.0, seed=3, max_new_tokens=60)
    brake.hold(after=0)
    waiting = [asyncio.ensure_future(collect(core.generate(request))) for _ in range(4)]
    await brake.standing()
    assert core.engine.scheduler.queued == 3
    brake.release()
    _, *timings = [chunks[-1].finish.timings for chunks in await asyncio.gather(*waiting)]
    # All had come before the first went on, and each was served when the one before it was done.
    served_s = 0.0
    for timing in timings:
        assert timing.queue_s >= served_s
        assert timing.first_token_s > timing.queue_s > 0
        served_s += timing.total_s - timing.queue_s


async def test_a_closed_iterator_frees_the_engine(
    core: InferenceCore, endless: inference_pb2.GenerateRequest, brake: Brake
) -> None:
    brake.hold(after=50)
    chunks = core.generate(endless)
    await anext(chunks)
    await brake.standing()
    await chunks.aclose()
    assert await steps_of_the_next(core.generate, brake) == 0


async def steps_of_the_next(
    generate: Callable[[inference_pb2.GenerateRequest], AsyncIterable[inference_pb2.GenerateChunk]],
    brake: Brake,
) -> int:
    """Lets the engine go on; how many steps it takes beyond those of the next answer. Its first token needs none."""
    before = brake.launches
    brake.release()
    answer = await collect(generate(generate_request("x", max_new_tokens=3)))
    took: int = brake.launches - before - (answer[-1].finish.usage.completion_tokens - 1)
    return took


async def test_a_cancelled_waiter_leaves_the_queue(
    engine: Engine, endless: inference_pb2.GenerateRequest, brake: Brake
) -> None:
    async with InferenceCore(engine, max_queue=1) as core:
        brake.hold(after=50)
        running = core.generate(endless)
        await anext(running)
        await brake.standing()
        waiting = asyncio.ensure_future(anext(core.generate(endless)))
        await asyncio.sleep(0)
        with pytest.raises(TreniError) as caught:
            await anext(core.generate(endless))
        assert caught.value.code is Code.RESOURCE_EXHAUSTED
        assert caught.value.definite
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        next_in_line = asyncio.ensure_future(collect(core.generate(generate_request("x", max_new_tokens=2))))
        await asyncio.sleep(0)
        await running.aclose()
        brake.release()
        assert (await next_in_line)[-1].finish.usage.completion_tokens == 2


async def test_closing_ends_what_runs_and_refuses_what_comes(
    engine: Engine, endless: inference_pb2.GenerateRequest, brake: Brake
) -> None:
    core = InferenceCore(engine)
    core.start()
    brake.hold(after=50)
    running, waiting = core.generate(endless), core.generate(endless)
    await anext(running)
    await brake.standing()
    waited = asyncio.ensure_future(anext(waiting))
    closing = asyncio.ensure_future(core.aclose())
    await asyncio.sleep(0)
    brake.release()
    await closing
    for ended, definite in (
        (waited, True),
        (collect(running), False),
        (collect(core.generate(endless)), True),
    ):
        with pytest.raises(TreniError) as caught:
            await ended
        assert (caught.value.code, caught.value.definite) == (Code.UNAVAILABLE, definite)


@pytest.mark.parametrize("failing", [False, True])
async def test_an_idle_engine_prepares_until_nothing_is_left(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, failing: bool
) -> None:
    calls, done = [], threading.Event()

    def prepare() -> bool:
        calls.append(threading.current_thread().name)
        if failing:
            done.set()
            raise RuntimeError("no memory for it")
        if len(calls) == 3:
            done.set()
        return len(calls) < 3

    monkeypatch.setattr(engine.runner, "prepare", prepare)
    async with InferenceCore(engine) as core:
        answers = [await collect(core.generate(generate_request("Hello", max_new_tokens=2)))]
        assert await asyncio.to_thread(done.wait, HANG_S)
        await asyncio.sleep(4 * IDLE_S)
        answers.append(await collect(core.generate(generate_request("Hello", max_new_tokens=2))))
    assert calls == ["engine"] * (1 if failing else 3)
    assert list(answers[0][-1].finish.tokens) == list(answers[1][-1].finish.tokens)


async def test_generate_over_grpc(stub: inference_pb2_grpc.InferenceServiceAsyncStub, engine: Engine) -> None:
    request = generate_request("Hello", temperature=1.0, seed=3, max_new_tokens=30)
    chunks = await collect(stub.Generate(request))
    expected = list(engine.generate(request))[-1].finish
    assert list(chunks[-1].finish.tokens) == list(expected.tokens)


async def test_embed_and_info_over_grpc(
    stub: inference_pb2_grpc.InferenceServiceAsyncStub, engine: Engine
) -> None:
    embedded = await stub.Embed(inference_pb2.EmbedRequest(texts=["a river", "a hill"]))
    assert [len(e.values) for e in embedded.embeddings] == [32, 32]
    assert await stub.Info(inference_pb2.InfoRequest()) == engine.info


async def test_refusals_travel_with_their_details(stub: inference_pb2_grpc.InferenceServiceAsyncStub) -> None:
    error = await status_of(stub.Generate(generate_request("x", temperature=-1.0)))
    assert (error.code, error.kind, error.definite) == (Code.INVALID_ARGUMENT, "temperature_invalid", True)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Embed(inference_pb2.EmbedRequest())
    assert from_rpc_error(caught.value, hop="model").kind == "texts_count"


async def test_200_at_once_are_answered_or_refused(
    stub: inference_pb2_grpc.InferenceServiceAsyncStub, brake: Brake
) -> None:
    async def one(index: int) -> inference_pb2.GenerateFinish | TreniError:
        try:
            chunks = await collect(stub.Generate(generate_request(f"{index}", max_new_tokens=5)))
        except grpc.aio.AioRpcError as error:
            return from_rpc_error(error, hop="model")
        return chunks[-1].finish

    brake.hold(after=0)
    calls = [asyncio.ensure_future(one(index)) for index in range(200)]
    first = [await ended for ended in itertools.islice(asyncio.as_completed(calls), 200 - 17)]
    errors = [ended for ended in first if isinstance(ended, TreniError)]
    assert len(errors) == len(first)
    assert {(e.code, e.kind, e.definite) for e in errors} == {(Code.RESOURCE_EXHAUSTED, "queue_full", True)}
    brake.release()
    answered = [o for o in await asyncio.gather(*calls) if not isinstance(o, TreniError)]
    assert len(answered) == 17
    assert all(finish.usage.completion_tokens > 0 for finish in answered)


async def test_a_10_mb_prompt_is_refused(stub: inference_pb2_grpc.InferenceServiceAsyncStub) -> None:
    """In words while it is read at all; far beyond, gRPC refuses it unread, which proves nothing."""
    for size, code, kind, definite in (
        (10_000_000, Code.RESOURCE_EXHAUSTED, "resource_exhausted", False),
        (600_000, Code.INVALID_ARGUMENT, "request_too_large", True),
        (100_000, Code.INVALID_ARGUMENT, "prompt_too_large", True),
    ):
        error = await status_of(stub.Generate(generate_request("x" * size)))
        assert (error.code, error.kind, error.definite) == (code, kind, definite)


async def test_an_expired_deadline_does_no_work(stub: inference_pb2_grpc.InferenceServiceAsyncStub) -> None:
    error = await status_of(stub.Generate(generate_request("x"), timeout=0))
    assert error.code is Code.DEADLINE_EXCEEDED


async def test_a_deadline_in_mid_stream_frees_the_engine(
    stub: inference_pb2_grpc.InferenceServiceAsyncStub,
    core: InferenceCore,
    endless: inference_pb2.GenerateRequest,
    brake: Brake,
) -> None:
    brake.hold(after=50)
    for timeout_s in longer_and_longer(0.05):
        error = await status_of(stub.Generate(endless, timeout=timeout_s))
        assert error.code is Code.DEADLINE_EXCEEDED
        if brake.is_standing:
            break
    await nobody_asks(core)
    assert await steps_of_the_next(stub.Generate, brake) == 0


async def test_a_client_that_goes_away_frees_the_engine(
    stub: inference_pb2_grpc.InferenceServiceAsyncStub,
    core: InferenceCore,
    endless: inference_pb2.GenerateRequest,
    brake: Brake,
) -> None:
    brake.hold(after=50)
    call = stub.Generate(endless)
    await call.read()
    await brake.standing()
    call.cancel()
    await nobody_asks(core)
    assert await steps_of_the_next(stub.Generate, brake) == 0


async def test_bytes_that_are_no_message(core: InferenceCore) -> None:
    running = await server.start(core)

    async with grpc.aio.insecure_channel(running.address, options=metadata.CHANNEL_OPTIONS) as channel:
        generate: grpc.aio.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream(
            "/treni.v1.InferenceService/Generate"
        )
        embed: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(
            "/treni.v1.InferenceService/Embed"
        )
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await collect(generate(b"\xff\xff\xff\xff"))
        error = from_rpc_error(caught.value, hop="model")
        assert (error.code, error.kind, error.definite) == (Code.INVALID_ARGUMENT, "request_malformed", True)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await embed(b"\xff")
        assert from_rpc_error(caught.value, hop="model").kind == "request_malformed"
        stub = inference_pb2_grpc.InferenceServiceStub(channel)
        assert (await stub.Info(inference_pb2.InfoRequest())).backend == "numpy"
    await running.stop(grace_s=0)


async def test_health_and_reflection(core: InferenceCore) -> None:
    running = await server.start(core)

    async with grpc.aio.insecure_channel(running.address, options=metadata.CHANNEL_OPTIONS) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for service in ("", "treni.v1.InferenceService"):
            reply = await health.Check(health_pb2.HealthCheckRequest(service=service))
            assert reply.status == health_pb2.HealthCheckResponse.SERVING
        listing = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo()
        await listing.write(reflection_pb2.ServerReflectionRequest(list_services=""))
        names = {s.name for s in (await listing.read()).list_services_response.service}
        await listing.done_writing()
        assert {"treni.v1.InferenceService", "grpc.health.v1.Health"} <= names
    await running.stop(grace_s=0)


async def test_the_process_says_where_it_listens_and_stops_when_told(random_directory: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "runtime_svc", "--model", str(random_directory), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        ready = json.loads(await process.stdout.readline())
        async with grpc.aio.insecure_channel(ready["address"], options=metadata.CHANNEL_OPTIONS) as channel:
            info = await inference_pb2_grpc.InferenceServiceStub(channel).Info(inference_pb2.InfoRequest())
        assert info.checkpoint_sha256 == Engine.load(random_directory).info.checkpoint_sha256
        process.terminate()
        assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()


async def test_the_process_says_what_is_wrong_with_a_directory(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "runtime_svc", "--model", str(tmp_path), stderr=asyncio.subprocess.PIPE
    )
    _, stderr = await process.communicate()
    assert process.returncode == 1
    assert b"config.json" in stderr
    assert b"Traceback" not in stderr


def test_memory_is_bounded_over_many_conversations(engine: Engine) -> None:
    """Slots are there from the start, and each has grown as far as these conversations need by its first use."""
    assert isinstance(engine.runner, NumpyRunner)
    sizes = []
    for index in range(200):
        list(engine.generate(generate_request(f"{index}", cache_key=f"run-{index}", max_new_tokens=2)))
        sizes.append(engine.runner.nbytes)
    assert sizes[-1] == sizes[80]


async def test_text_is_gathered_after_the_first(
    engine: Engine, endless: inference_pb2.GenerateRequest
) -> None:
    expected = list(engine.generate(endless))[-1].finish
    counts = []
    for interval_s in (1e9, 0.0):
        async with InferenceCore(engine, flush_interval_s=interval_s) as core:
            chunks = await collect(core.generate(endless))
        assert "".join(chunk.text for chunk in chunks) == expected.text
        assert chunks[-1].finish.text == expected.text
        counts.append(len(chunks))
    assert counts[0] == 2
    assert counts[1] > 100

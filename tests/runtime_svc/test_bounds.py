"""What a request may bring is counted before it is worked on, and long prompts are tokenised beside the engine."""

import asyncio
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NoReturn

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from runtime_svc import core as core_module
from runtime_svc import server
from runtime_svc.bounds import check_counts, check_vectors
from runtime_svc.core import InferenceCore
from runtime_svc.engine import Engine
from runtime_svc.random_checkpoint import Shape, write_random_checkpoint
from tests.limits import HANG_S
from tests.runtime_svc.requests import generate_request
from treni.channels import open_channel
from treni.errors import Code, TreniError, from_rpc_error
from treni.limits import ANSWER_BYTES, MESSAGES, NEW_TOKENS, TOOL_CALLS, TOOLS, Limit
from treni.v1 import common_pb2, inference_pb2, inference_pb2_grpc

LONG = "long " * 100


@pytest.fixture(scope="module")
def engine(random_directory: Path) -> Engine:
    return Engine.load(random_directory, max_rows=1)


class Prompts:
    """On which threads prompts were tokenised; those beside the engine wait for the gate, which is open at first."""

    def __init__(self, tokenize: Callable[[inference_pb2.GenerateRequest], list[int]]) -> None:
        self.threads: list[str] = []
        self.asked, self.gate = threading.Event(), threading.Event()
        self.gate.set()
        self._tokenize = tokenize

    def __call__(self, request: inference_pb2.GenerateRequest) -> list[int]:
        thread = threading.current_thread().name.partition("_")[0]
        self.threads.append(thread)
        self.asked.set()
        if thread == "tokenise":
            assert self.gate.wait(HANG_S)
        return self._tokenize(request)

    async def hold(self) -> None:
        """Returns when a prompt waits for the gate."""
        assert await asyncio.to_thread(self.asked.wait, HANG_S)


@pytest.fixture
def prompts(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Prompts:
    watched = Prompts(engine.prompt)
    monkeypatch.setattr(engine, "prompt", watched)
    return watched


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything counts as long that is longer than a few words."""
    monkeypatch.setattr(core_module, "LARGE_BYTES", 100)


def many(count: int, tools: Iterable[common_pb2.ToolSpec] = ()) -> inference_pb2.GenerateRequest:
    return inference_pb2.GenerateRequest(messages=[common_pb2.Message() for _ in range(count)], tools=tools)


def calls(messages: int, each: int) -> inference_pb2.GenerateRequest:
    call = common_pb2.ToolCall()
    return inference_pb2.GenerateRequest(
        messages=[common_pb2.Message(role="assistant", tool_calls=[call] * each) for _ in range(messages)]
    )


EMPTY_TOOL = common_pb2.ToolSpec()
TOO_MUCH = {
    "messages": (many(MESSAGES.most + 1), MESSAGES),
    "as many messages as a request holds": (many(60_000), MESSAGES),
    "tools": (many(1, tools=[EMPTY_TOOL] * (TOOLS.most + 1)), TOOLS),
    "3,500 tools": (many(1, tools=[EMPTY_TOOL] * 3500), TOOLS),
    "tool calls of one message": (calls(1, TOOL_CALLS.most + 1), TOOL_CALLS),
    "tool calls of all messages": (calls(100, 100), TOOL_CALLS),
    "20,000 tool calls": (calls(1, 20_000), TOOL_CALLS),
    "tokens": (generate_request("x", max_new_tokens=NEW_TOKENS.most + 1), NEW_TOKENS),
}


@pytest.mark.parametrize(("request_", "limit"), TOO_MUCH.values(), ids=TOO_MUCH)
async def test_what_is_too_much_is_refused_before_anything_is_done_for_it(
    engine: Engine, prompts: Prompts, request_: inference_pb2.GenerateRequest, limit: Limit
) -> None:
    async with InferenceCore(engine) as core:
        running = await server.start(core)
        async with open_channel(running.address) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await anext(aiter(inference_pb2_grpc.InferenceServiceStub(channel).Generate(request_)))
            await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=HANG_S)
        await running.stop(grace_s=0)
    error = from_rpc_error(caught.value, hop="model")
    assert (error.code, error.kind, error.definite) == (Code.INVALID_ARGUMENT, limit.kind, True)
    assert str(limit.most) in error.expected
    assert prompts.threads == []


def test_what_is_just_not_too_much_is_counted_as_that() -> None:
    check_counts(many(MESSAGES.most, tools=[EMPTY_TOOL] * TOOLS.most))
    check_counts(calls(2, TOOL_CALLS.most // 2))
    check_counts(generate_request("x", max_new_tokens=NEW_TOKENS.most))


@pytest.mark.parametrize("width", [32, 384, 1024, 4096, 5120])
def test_the_texts_that_are_let_in_fit_one_answer(width: int) -> None:
    vector = inference_pb2.Embedding(values=[-0.1234567] * width)
    with pytest.raises(TreniError) as caught:
        check_vectors(ANSWER_BYTES, width)
    most = int(caught.value.expected.split()[2])
    check_vectors(most, width)
    with pytest.raises(TreniError):
        check_vectors(most + 1, width)
    one = inference_pb2.EmbedResponse(embeddings=[vector]).ByteSize()
    assert most * one <= ANSWER_BYTES < (most * 1.2 + 1) * one


async def test_texts_whose_vectors_would_not_fit_are_refused_before_any_is_computed(tmp_path: Path) -> None:
    wide = Shape(
        layers=1, hidden=4096, heads=2, kv_heads=1, head_dim=8, ffn=8, vocabulary=288, context_length=64
    )
    engine = Engine.load(write_random_checkpoint(tmp_path / "wide", wide), slots=8)
    async with InferenceCore(engine) as core:
        running = await server.start(core)
        # A client without our options takes as much as ours.
        async with grpc.aio.insecure_channel(running.address) as channel:
            stub = inference_pb2_grpc.InferenceServiceStub(channel)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub.Embed(inference_pb2.EmbedRequest(texts=["a"] * 256))
            error = from_rpc_error(caught.value, hop="model")
            assert (error.code, error.kind, error.definite) == (Code.INVALID_ARGUMENT, "texts_count", True)
            most = int(error.expected.split()[2])
            assert len((await stub.Embed(inference_pb2.EmbedRequest(texts=["a"] * most))).embeddings) == most
        await running.stop(grace_s=0)


async def answer(core: InferenceCore, request: inference_pb2.GenerateRequest) -> inference_pb2.GenerateFinish:
    *_, last = [chunk async for chunk in core.generate(request)]
    return last.finish


async def test_a_long_prompt_is_tokenised_beside_the_engine_and_answered_the_same(
    engine: Engine, prompts: Prompts, small: None
) -> None:
    long = generate_request(LONG, temperature=1.0, seed=3, max_new_tokens=5)
    expected = list(engine.generate(long))[-1].finish
    prompts.threads.clear()
    async with InferenceCore(engine) as core:
        finish = await answer(core, long)
        await answer(core, generate_request("Hello", max_new_tokens=2))
    assert list(finish.tokens) == list(expected.tokens)
    assert prompts.threads == ["tokenise", "engine"]
    stages = finish.timings
    assert 0 < stages.tokenize_s <= stages.total_s
    assert stages.queue_s + stages.tokenize_s + stages.prefill_s <= stages.total_s


async def test_the_engine_goes_on_while_a_long_prompt_is_tokenised(
    engine: Engine, prompts: Prompts, small: None
) -> None:
    async with InferenceCore(engine) as core:
        prompts.gate.clear()
        long = asyncio.ensure_future(answer(core, generate_request(LONG, max_new_tokens=2)))
        await prompts.hold()
        assert (await answer(core, generate_request("Hello", max_new_tokens=2))).usage.completion_tokens > 0
        assert not long.done()
        prompts.gate.set()
        assert (await long).usage.completion_tokens > 0
    assert prompts.threads == ["tokenise", "engine"]


async def test_who_leaves_before_his_prompt_is_tokenised_costs_nothing(
    engine: Engine, prompts: Prompts, small: None
) -> None:
    long = generate_request(LONG, max_new_tokens=2)
    async with InferenceCore(engine, max_queue=3) as core:
        prompts.gate.clear()
        waiting = [asyncio.ensure_future(answer(core, long)) for _ in range(3)]
        await prompts.hold()
        with pytest.raises(TreniError) as caught:
            await answer(core, generate_request("Hello"))
        assert (caught.value.kind, caught.value.definite) == ("queue_full", True)
        for left in waiting[1:]:
            left.cancel()
        await asyncio.gather(*waiting[1:], return_exceptions=True)
        prompts.gate.set()
        await waiting[0]
        assert (await answer(core, generate_request("Hello", max_new_tokens=2))).usage.completion_tokens > 0
    assert prompts.threads == ["tokenise", "engine"]


async def test_a_long_prompt_that_is_refused_is_refused_as_any(engine: Engine, small: None) -> None:
    async with InferenceCore(engine) as core:
        for _ in range(2):
            with pytest.raises(TreniError) as caught:
                await answer(core, generate_request("word " * 5000))
            assert (caught.value.kind, caught.value.definite) == ("context_overflow", True)
        assert core.engine.scheduler.queued == 0
        assert (await answer(core, generate_request("Hello", max_new_tokens=2))).usage.completion_tokens > 0


@pytest.mark.parametrize("work", ["prefill", "launch"])
async def test_a_request_that_memory_is_too_little_for_is_told_so_and_the_engine_goes_on(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, work: str
) -> None:
    def too_little(*_: object, **__: object) -> NoReturn:
        raise MemoryError("unable to allocate 9 TiB")

    async with InferenceCore(engine) as core:
        with monkeypatch.context() as patched:
            patched.setattr(engine.runner, work, too_little)
            with pytest.raises(TreniError, match="9 TiB") as caught:
                await answer(core, generate_request("Hello", max_new_tokens=4))
        error = caught.value
        assert (error.code, error.kind, error.definite) == (Code.RESOURCE_EXHAUSTED, "out_of_memory", False)
        assert (await answer(core, generate_request("Hello", max_new_tokens=2))).usage.completion_tokens > 0

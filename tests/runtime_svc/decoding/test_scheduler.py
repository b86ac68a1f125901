"""Continuous batching on a real model, step by step, with launches computed at once and with launches ahead."""

import itertools
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest

from runtime_svc.backends.numpy.decoder import CHUNK, Decoder
from runtime_svc.backends.numpy.runner import NumpyRunner
from runtime_svc.decoding.slots import BLOCK
from runtime_svc.engine import Engine
from runtime_svc.errors import cancelled
from runtime_svc.template import ChatTemplate
from runtime_svc.tokens.tokenizer import Tokenizer
from tests.runtime_svc.requests import Settings, generate_request
from tests.runtime_svc.runners import Heard, Watched
from treni.errors import Code
from treni.v1 import inference_pb2

ROWS = 16


@pytest.fixture(scope="module")
def decoder(engine: Engine) -> Decoder:
    assert isinstance(engine.runner, NumpyRunner)
    return engine.runner.decoder


def build(
    directory: Path,
    decoder: Decoder,
    *,
    ahead: int = 0,
    rows: int = ROWS,
    slots: int | None = None,
    batch_invariant: bool = False,
) -> Engine:
    runner = NumpyRunner(decoder, slots=slots or rows + 4, capacity=1024, max_rows=rows)
    return Engine(
        directory=directory,
        runner=Watched(runner, ahead=ahead),
        tokenizer=Tokenizer(directory),
        template=ChatTemplate(directory),
        batch_invariant=batch_invariant,
    )


def watched(engine: Engine) -> Watched:
    assert isinstance(engine.runner, Watched)
    return engine.runner


def calls_of(engine: Engine) -> list[tuple[Any, ...]]:
    return watched(engine).calls


class Submitted(Heard):
    def __init__(self, engine: Engine, request: inference_pb2.GenerateRequest) -> None:
        super().__init__(request)
        self.generation = engine.start(request, self)
        engine.scheduler.submit(self.generation)


def submit(engine: Engine, request: inference_pb2.GenerateRequest) -> Submitted:
    return Submitted(engine, request)


def finish_all(engine: Engine) -> None:
    while engine.scheduler.step():
        pass
    assert engine.scheduler.slots.in_use == 0


def alone(engine: Engine, request: inference_pb2.GenerateRequest) -> inference_pb2.GenerateFinish:
    heard = submit(engine, request)
    finish_all(engine)
    return heard.finished


def requests(count: int) -> Iterator[inference_pb2.GenerateRequest]:
    """Greedy and sampled by turns, short prompts and prompts of several chunks, answers of all lengths."""
    for index in range(count):
        settings: Settings = {"temperature": 1.0, "seed": index} if index % 2 else {}
        settings["max_new_tokens"] = 20 + index * 11 % 60
        yield generate_request(f"{index} " + "word " * (index * 7 % 60), **settings)


@pytest.mark.parametrize("ahead", [0, 1, 3])
def test_answers_of_sixteen_at_once_are_those_of_each_alone_bit_for_bit(
    random_directory: Path, decoder: Decoder, ahead: int
) -> None:
    engine = build(random_directory, decoder, ahead=ahead)
    single = build(random_directory, decoder)
    heard = [submit(engine, request) for request in requests(24)]
    most = 0
    while engine.scheduler.step():
        most = max(most, engine.scheduler.running)
    assert most == ROWS
    reasons = set()
    for one in heard:
        expected = alone(single, one.request)
        assert list(one.finished.tokens) == list(expected.tokens)
        assert (one.finished.text, one.finished.reason) == (expected.text, expected.reason)
        reasons.add(expected.reason)
    assert reasons == {"stop", "length"}


@pytest.mark.parametrize("ahead", [0, 1])
def test_a_hundred_cancellations_free_every_slot_within_a_step(
    random_directory: Path, decoder: Decoder, ahead: int
) -> None:
    engine, single = build(random_directory, decoder, ahead=ahead), build(random_directory, decoder)
    scheduler, chance = engine.scheduler, random.Random(4)
    endless = list(requests(200))
    expected = {}
    live: list[Submitted] = []
    answered = dropped = 0

    def step() -> None:
        """One step, after which only what ended in it may still wait for the step launched ahead."""
        scheduler.step()
        ended = sum(one.answer is not None for one in live)
        assert scheduler.slots.in_use <= scheduler.running + (ended if ahead else 0)

    while dropped < 100 or live:
        while len(live) < ROWS and dropped < 100:
            live.append(submit(engine, endless[chance.randrange(len(endless))]))
        if dropped < 100 and chance.random() < 0.3:
            victim = live.pop(chance.randrange(len(live)))
            victim.generation.cancel(cancelled())
            dropped += 1
            if not scheduler.withdraw(victim.generation):
                step()
                assert victim.failure.code is Code.CANCELLED
        step()
        for one in [one for one in live if one.answer is not None]:
            live.remove(one)
            answered += 1
            key = one.request.SerializeToString()
            if key not in expected:
                expected[key] = list(alone(single, one.request).tokens)
            assert list(one.finished.tokens) == expected[key]
    finish_all(engine)
    assert answered > 20


@pytest.mark.parametrize("ahead", [0, 1])
def test_a_cancelled_sequence_gives_its_slot_back_in_the_next_step(
    random_directory: Path, decoder: Decoder, ahead: int
) -> None:
    engine = build(random_directory, decoder, ahead=ahead)
    heard = [submit(engine, request) for request in requests(ROWS)]
    while engine.scheduler.running < 10:
        engine.scheduler.step()
    begun = [one for one in heard if one.generation.begun and not one.generation.over]
    for one in begun:
        one.generation.cancel(cancelled())
    engine.scheduler.step()
    admitted = sum(one.generation.begun and not one.generation.over for one in heard)
    assert engine.scheduler.slots.in_use == admitted <= 1
    finish_all(engine)


def test_the_token_drawn_after_the_end_is_dropped(random_directory: Path, decoder: Decoder) -> None:
    stops = next(
        request
        for seed in range(99)
        if alone(
            build(random_directory, decoder),
            request := generate_request(
                "Hello", temperature=1.0, seed=seed, max_new_tokens=60, cache_key="k"
            ),
        ).reason
        == "stop"
    )
    cut = generate_request("Hello", max_new_tokens=7, cache_key="k")
    for request, surplus in ((stops, 1), (cut, 0)):
        expected = alone(build(random_directory, decoder), request)
        engine = build(random_directory, decoder, ahead=1)
        answer = alone(engine, request)
        assert list(answer.tokens) == list(expected.tokens)
        launches = [call for call in calls_of(engine) if call[0] == "launch"]
        assert len(launches) == len(answer.tokens) - 1 + surplus
        # Neither the slot's memory of its tokens nor the next turn knows of it.
        (kept,) = {engine.scheduler.slots.tokens(slot) for slot in range(ROWS)} - {()}
        assert list(kept) == engine.prompt(request) + [token.id for token in answer.tokens][:-1]
        again = alone(engine, request)
        assert again.usage.cached_prompt_tokens == again.usage.prompt_tokens - 1
        assert [token.id for token in again.tokens] == [token.id for token in answer.tokens]


def test_the_next_turn_waits_for_the_surplus_step_and_takes_over_its_slot(
    random_directory: Path, decoder: Decoder
) -> None:
    engine = build(random_directory, decoder, ahead=1)
    request = next(
        r
        for seed in range(99)
        if alone(engine, r := generate_request("Hi", temperature=1.0, seed=seed)).reason == "stop"
    )
    request.cache_key = "run"
    first = submit(engine, request)
    while first.answer is None:
        engine.scheduler.step()
    assert watched(engine).launched  # the step ahead is still under way
    second = submit(engine, request)
    finish_all(engine)
    assert second.finished.usage.cached_prompt_tokens == second.finished.usage.prompt_tokens - 1
    assert not [call for call in calls_of(engine) if call[0] == "copy"]


@pytest.mark.parametrize("ahead", [0, 1])
def test_a_long_prompt_holds_running_streams_up_by_one_chunk_a_token(
    random_directory: Path, decoder: Decoder, ahead: int
) -> None:
    engine = build(random_directory, decoder, ahead=ahead)
    chunk = CHUNK if ahead == 0 else 512
    running = submit(engine, generate_request("Go on", max_new_tokens=40))
    while engine.scheduler.running == 0 or engine.scheduler.queued:
        engine.scheduler.step()
    long = [submit(engine, generate_request(f"{i}" + "word " * 180, max_new_tokens=2)) for i in range(3)]
    finish_all(engine)
    assert all(one.finished.usage.prompt_tokens > 800 for one in long)
    calls = calls_of(engine)
    slot = calls[0][1]
    steps = [index for index, call in enumerate(calls) if call[0] == "launch" and slot in call[1:]]
    assert len(steps) == 39
    between = [calls[a + 1 : b] for a, b in itertools.pairwise(steps)]
    prefilled = [sum(call[3] for call in part if call[0] == "prefill") for part in between]
    assert max(prefilled) == chunk
    assert sum(prefilled) > 800
    # What the prompts took is not this answer's decoding.
    assert running.finished.timings.queue_s > long[0].finished.timings.prefill_s


def test_admission_is_in_order_of_arrival(
    random_directory: Path, decoder: Decoder, processor_time: None
) -> None:
    engine = build(random_directory, decoder, rows=3)
    heard = [submit(engine, request) for request in requests(12)]
    begun = []
    while engine.scheduler.step():
        begun += [one for one in heard if one.generation.begun and one not in begun]
    assert begun == heard
    waits = [one.finished.timings.queue_s for one in heard]
    assert waits[-1] > waits[0]


def test_a_second_turn_computes_only_what_is_new(random_directory: Path, decoder: Decoder) -> None:
    engine = build(random_directory, decoder)
    first = generate_request("Tell me a long story about the sea", cache_key="run", max_new_tokens=4)
    alone(engine, first)
    calls_of(engine).clear()
    longer = generate_request(
        "Tell me a long story about the sea and the hills", cache_key="run", max_new_tokens=4
    )
    prompt, before = engine.prompt(longer), engine.prompt(first)
    shared = next(i for i, (a, b) in enumerate(zip(prompt, before, strict=False)) if a != b)
    answer = alone(engine, longer)
    assert answer.usage.cached_prompt_tokens == shared > BLOCK
    assert calls_of(engine)[0] == ("prefill", 0, shared, len(prompt) - shared)


def test_the_prefix_of_a_busy_slot_is_copied_in_blocks(random_directory: Path, decoder: Decoder) -> None:
    engine, single = build(random_directory, decoder), build(random_directory, decoder)
    stem = "The same long introduction for both of them. "
    requests = [generate_request(stem + word, cache_key="run", max_new_tokens=20) for word in ("One", "Two")]
    first, second = (submit(engine, request) for request in requests)
    finish_all(engine)
    prompts = [engine.prompt(request) for request in requests]
    shared = next(i for i, (a, b) in enumerate(zip(*prompts, strict=False)) if a != b)
    assert first.finished.usage.cached_prompt_tokens == 0
    assert second.finished.usage.cached_prompt_tokens == shared // BLOCK * BLOCK > 0
    assert [c for c in calls_of(engine) if c[0] == "copy"] == [("copy", 0, 1, shared // BLOCK * BLOCK)]
    assert second.finished.timings.copy_s > 0
    for one in (first, second):
        fresh = alone(single, generate_request(one.request.messages[0].content, max_new_tokens=20))
        assert [t.id for t in one.finished.tokens] == [t.id for t in fresh.tokens]
        logprobs = [[t.logprob for t in finish.tokens] for finish in (one.finished, fresh)]
        np.testing.assert_allclose(logprobs[0], logprobs[1], atol=1e-5)


def test_no_key_reuses_another_keys_prefix_busy_or_not(random_directory: Path, decoder: Decoder) -> None:
    engine = build(random_directory, decoder)
    text = "One and the same long text under every key. " * 3
    for _ in range(2):
        heard = [
            submit(engine, generate_request(text, cache_key=key, max_new_tokens=9))
            for key in ("a", "b", "", "")
        ]
        finish_all(engine)
        reused = [one.finished.usage.cached_prompt_tokens for one in heard]
        length = heard[0].finished.usage.prompt_tokens
        assert reused in ([0, 0, 0, 0], [length - 1, length - 1, 0, 0])
    assert reused == [length - 1, length - 1, 0, 0]
    assert not [call for call in calls_of(engine) if call[0] == "copy"]


def test_batch_invariance_takes_rows_one_by_one_and_chunks_of_one_size(
    random_directory: Path, decoder: Decoder
) -> None:
    engine = build(random_directory, decoder, ahead=1, batch_invariant=True)
    for request in requests(6):
        submit(engine, request)
    finish_all(engine)
    assert {len(call) for call in calls_of(engine) if call[0] == "launch"} == {2}
    long = generate_request("word " * 180, max_new_tokens=3)
    sizes = []
    for _ in range(2):  # alone, then beside a stream
        calls_of(engine).clear()
        submit(engine, long)
        finish_all(engine)
        sizes.append([call[3] for call in calls_of(engine) if call[0] == "prefill" and call[3] > 100])
        submit(engine, generate_request("Go on", max_new_tokens=200))
        engine.scheduler.step()
    assert sizes[0] == sizes[1] == [512, sizes[0][1]]


@pytest.mark.parametrize("ahead", [0, 1])
def test_sequences_whose_step_fails_say_so_and_the_others_go_on(
    random_directory: Path, decoder: Decoder, ahead: int
) -> None:
    engine, single = build(random_directory, decoder, ahead=ahead), build(random_directory, decoder)
    kept = generate_request("Later", cache_key="k", max_new_tokens=5)
    texts = ["one", "two", "three", "four"]
    heard = [submit(engine, generate_request(text, cache_key="k", max_new_tokens=40)) for text in texts]
    for _ in range(3):
        engine.scheduler.step()
    head = decoder.weights.head
    healthy = head.copy()
    head[...] = np.nan
    try:
        engine.scheduler.step()
    finally:
        head[...] = healthy
    failed = [one for one in heard if one.error is not None]
    assert len(failed) >= 2
    assert {(one.failure.code, one.failure.kind) for one in failed} == {(Code.INTERNAL, "logits_not_finite")}
    finish_all(engine)
    assert all(one.answer is not None for one in heard if one not in failed)
    assert list(alone(engine, kept).tokens) == list(alone(single, kept).tokens)


@pytest.mark.parametrize("ahead", [0, 1])
def test_a_sequence_without_finite_logits_is_the_only_one_that_fails(
    random_directory: Path, decoder: Decoder, ahead: int
) -> None:
    engine, single = build(random_directory, decoder, ahead=ahead), build(random_directory, decoder)
    requests = [generate_request(text, cache_key="k", max_new_tokens=40) for text in ("one", "two", "three")]
    heard = [submit(engine, request) for request in requests]
    for _ in range(5):
        engine.scheduler.step()
    second = engine.scheduler._decoding[1]
    watched(engine)._caches[second.slot].values[0][...] = np.nan
    finish_all(engine)
    assert (heard[1].failure.code, heard[1].failure.kind) == (Code.INTERNAL, "logits_not_finite")
    for index in (0, 2):
        assert list(heard[index].finished.tokens) == list(alone(single, requests[index]).tokens)
    again = alone(engine, requests[1])  # what is broken is not used again
    assert list(again.tokens) == list(alone(single, requests[1]).tokens)


def test_what_nobody_foresaw_is_told_and_the_engine_goes_on(
    random_directory: Path, decoder: Decoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = build(random_directory, decoder)
    request = generate_request("Hello", max_new_tokens=5)
    expected = alone(engine, request)
    for owner, name in ((engine.runner, "prefill"), (engine.runner, "launch"), (engine.tokenizer, "encode")):

        def broken(*arguments: object, **more: object) -> NoReturn:
            raise RuntimeError("the sky fell")

        with monkeypatch.context() as patched:
            patched.setattr(owner, name, broken)
            heard = submit(engine, request)
            finish_all(engine)
        assert (heard.failure.code, heard.failure.kind) == (Code.INTERNAL, "engine_failed")
        assert "the sky fell" in heard.failure.got
        assert list(alone(engine, request).tokens) == list(expected.tokens)

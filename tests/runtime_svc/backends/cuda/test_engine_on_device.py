"""The engine and its scheduler over the device's runner: steps launched ahead, slots shared, prefixes reused."""

import json
from collections.abc import Iterable
from pathlib import Path

import pytest

from runtime_svc.backends.cuda.device import Device
from runtime_svc.engine import Engine
from runtime_svc.random_checkpoint import Shape, write_random_checkpoint
from runtime_svc.template import ChatTemplate
from runtime_svc.tokens.tokenizer import Tokenizer
from tests.runtime_svc.backends.cuda.test_runner import made
from tests.runtime_svc.requests import generate_request, tool
from treni.v1 import inference_pb2

CLEAR_GAP = 0.1
QUESTIONS = ("Which is larger?", "Hello")


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    shape = Shape(hidden=128, head_dim=32, ffn=192)
    return write_random_checkpoint(tmp_path_factory.mktemp("engine") / "small", shape, seed=9)


@pytest.fixture
def engine(device: Device, directory: Path) -> Engine:
    runner = made(device, directory, slots=3, capacity=200)
    return Engine(
        directory=directory, runner=runner, tokenizer=Tokenizer(directory), template=ChatTemplate(directory)
    )


def finish_of(chunks: Iterable[inference_pb2.GenerateChunk]) -> inference_pb2.GenerateFinish:
    *_, last = chunks
    return last.finish


def test_answers_are_the_numpy_engines_wherever_the_choice_is_clear(engine: Engine, directory: Path) -> None:
    reference = Engine.load(directory)
    for question in QUESTIONS:
        request = generate_request(question, max_new_tokens=6)
        expected, actual = finish_of(reference.generate(request)), finish_of(engine.generate(request))
        assert (actual.backend, actual.device) == ("cupy", "a device")
        assert actual.usage.prompt_tokens == expected.usage.prompt_tokens
        for ours, theirs in zip(actual.tokens, expected.tokens, strict=False):
            if ours.id != theirs.id:
                assert expected.awareness.min_margin <= CLEAR_GAP
                break
            assert ours.logprob == pytest.approx(theirs.logprob, abs=0.05)
            assert ours.entropy == pytest.approx(theirs.entropy, abs=0.02)


def test_side_by_side_gives_the_bits_of_one_after_the_other(engine: Engine) -> None:
    requests = [generate_request(question, max_new_tokens=4) for question in QUESTIONS]
    alone = [finish_of(engine.generate(request)).tokens for request in requests]
    # Driven by whoever iterates: the first chunk of one stream advances the other's sequence too.
    streams = [engine.generate(request) for request in requests]
    begun = [next(stream) for stream in streams]
    chunks = [[first, *stream] for first, stream in zip(begun, streams, strict=True)]
    assert [list(each[-1].finish.tokens) for each in chunks] == [list(tokens) for tokens in alone]


def test_a_second_turn_prefills_only_what_is_new(engine: Engine) -> None:
    first = finish_of(engine.generate(generate_request("Hello", cache_key="a", max_new_tokens=2)))
    again = finish_of(engine.generate(generate_request("Hello", cache_key="a", max_new_tokens=2)))
    assert first.usage.cached_prompt_tokens == 0
    assert again.usage.cached_prompt_tokens > 0
    assert [token.id for token in again.tokens] == [token.id for token in first.tokens]


def test_an_answer_held_to_a_form_leaves_its_neighbours_bits_alone(engine: Engine) -> None:
    held = generate_request("Colour?", max_new_tokens=12, temperature=1.0, seed=3)
    held.constraint.json_schema = '{"enum": ["red", "green", 7]}'
    held.top_logprobs = 3
    free = [generate_request(question, max_new_tokens=10, temperature=0.7, seed=5) for question in QUESTIONS]
    alone = [finish_of(engine.generate(request)) for request in (held, *free)]
    streams = [engine.generate(request) for request in (held, *free)]
    begun = [next(stream) for stream in streams]
    together = [finish_of([first, *stream]) for first, stream in zip(begun, streams, strict=True)]
    for one, beside in zip(alone, together, strict=True):
        assert list(one.tokens) == list(beside.tokens)
    answer = together[0]
    assert (answer.reason, answer.constrained) == ("stop", True)
    assert json.loads(answer.content) in ("red", "green", 7)
    for token in answer.tokens:
        assert len(token.top) == 3
        assert [one.logprob for one in token.top] == sorted((one.logprob for one in token.top), reverse=True)
        assert [one.logprob for one in token.top if one.id == token.id] in (
            [],
            [pytest.approx(token.logprob)],
        )


def test_a_call_that_has_to_be_made_is_made(device: Device, directory: Path) -> None:
    engine = Engine(
        directory=directory,
        runner=made(device, directory, slots=1, capacity=400),
        tokenizer=Tokenizer(directory),
        template=ChatTemplate(directory),
    )
    request = generate_request("Hello", tools=[tool("f")], max_new_tokens=100, temperature=1.0, seed=1)
    request.constrain_calls = True
    request.tool_choice.mode, request.tool_choice.one_call = "required", True
    finish = finish_of(engine.generate(request))
    assert finish.reason == "tool_calls"
    assert [(call.name, json.loads(call.arguments_json)) for call in finish.tool_calls] == [("f", {})]

"""Engines whose answers are held to a form: by a model that knows what it does, and by one that writes noise."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import runtime_svc
from runtime_svc.engine import Engine
from runtime_svc.random_checkpoint import MARKERS, Shape, write_random_checkpoint
from tests.runtime_svc.constraints.made_up import PAIR, made_up
from tests.runtime_svc.requests import generate_request, tool
from tests.runtime_svc.runners import Heard, Watched
from treni.errors import Code, TreniError
from treni.v1 import common_pb2, inference_pb2

BUNDLED = Path(runtime_svc.__file__).parent / "checkpoints" / "treni-tiny"
TOOLS = [
    tool(
        "get_port",
        json.dumps(
            {"type": "object", "properties": {"service": {"type": "string"}}, "required": ["service"]}
        ),
    ),
    tool(
        'odd "name"',
        json.dumps(
            {
                "type": "object",
                "properties": {
                    "kind": {"$ref": "#/$defs/kind"},
                    "count": {"type": "integer", "minimum": 1, "maximum": 20},
                    "tags": {"type": "array", "items": {"enum": ["x", "y"]}, "maxItems": 2},
                },
                "required": ["kind", "count"],
                "$defs": {"kind": {"enum": ["große", 1, None]}},
            }
        ),
    ),
    tool("nothing"),
]
SCHEMA_OF = {one.name: json.loads(one.parameters_json) for one in TOOLS}


@pytest.fixture(scope="session")
def tiny() -> Engine:
    return Engine.load(BUNDLED, slots=8, slot_tokens=1024)


@pytest.fixture(scope="session")
def spelled_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model without tokens for its tags: it has to spell them."""
    directory = write_random_checkpoint(tmp_path_factory.mktemp("spelled") / "small", Shape(), seed=6)
    path = directory / "tokenizer.json"
    written = json.loads(path.read_text())
    written["added_tokens"] = [one for one in written["added_tokens"] if one["content"] not in MARKERS]
    path.write_text(json.dumps(written))
    return directory


@pytest.fixture(scope="session")
def spelled(spelled_directory: Path) -> Engine:
    return Engine.load(spelled_directory)


def finish_of(chunks: Iterable[inference_pb2.GenerateChunk]) -> inference_pb2.GenerateFinish:
    pieces = list(chunks)
    finish = pieces[-1].finish
    assert "".join(chunk.text for chunk in pieces) == finish.text
    return finish


def asked(question: str = "Tell me.", **fields: Any) -> inference_pb2.GenerateRequest:
    names = ("temperature", "seed", "max_new_tokens", "tools", "cache_key", "top_p", "top_k")
    more = {name: fields.pop(name) for name in names if name in fields}
    request = generate_request(question, **more)
    request.MergeFrom(inference_pb2.GenerateRequest(**fields))
    return request


def schema(value: Any) -> inference_pb2.Constraint:
    return inference_pb2.Constraint(json_schema=json.dumps(value))


def check_that_all_fit(engine: Engine, count: int, *, levels: int = 1) -> None:
    """`count` answers to made-up schemas, every second one drawn, fit; a few more may be cut by their length."""
    draw = random.Random(14)
    fitted = number = 0
    while fitted < count:
        wanted = {**made_up(draw, levels), "$defs": {"pair": PAIR}}
        number += 1
        one = asked(constraint=schema(wanted), temperature=float(number % 2), seed=number, max_new_tokens=150)
        finish = finish_of(engine.generate(one))
        assert finish.constrained
        if finish.reason == "length":
            assert finish.usage.completion_tokens == 150
            continue
        assert finish.reason == "stop"
        jsonschema.Draft202012Validator(wanted).validate(json.loads(finish.content))
        fitted += 1
    assert number - fitted <= count / 20


@pytest.mark.parametrize("count", [40, pytest.param(200, marks=pytest.mark.soak)])
def test_all_answers_fit_their_schemas(tiny: Engine, count: int) -> None:
    check_that_all_fit(tiny, count)


def test_noise_fits_its_schemas(engine: Engine) -> None:
    check_that_all_fit(engine, 20)


def test_noise_fits_its_schemas_where_tags_are_spelled(spelled: Engine) -> None:
    check_that_all_fit(spelled, 10)


@pytest.mark.soak
def test_all_fit_deeper_schemas(tiny: Engine, engine: Engine, spelled: Engine) -> None:
    check_that_all_fit(tiny, 200, levels=2)
    check_that_all_fit(engine, 200, levels=2)
    check_that_all_fit(spelled, 200, levels=2)


@pytest.mark.parametrize("name", ["engine", "spelled"])
def test_any_object_is_one(name: str, request: pytest.FixtureRequest) -> None:
    engine: Engine = request.getfixturevalue(name)
    ended = 0
    for seed in range(5):
        one = asked(
            constraint=inference_pb2.Constraint(json_object=True),
            temperature=1.0,
            seed=seed,
            max_new_tokens=250,
        )
        finish = finish_of(engine.generate(one))
        if finish.reason == "stop":
            assert isinstance(json.loads(finish.content), dict)
            ended += 1
        else:
            assert finish.reason == "length"
            assert finish.content.startswith("{")
    assert ended > 0


@pytest.mark.parametrize("name", ["tiny", "engine", "spelled"])
@pytest.mark.parametrize("mode", ["required", "tool"])
@pytest.mark.parametrize(("one_call", "asked_for"), [(True, True), (False, True), (True, False)])
def test_what_has_to_be_called_is_called_and_fits(
    name: str, mode: str, one_call: bool, asked_for: bool, request: pytest.FixtureRequest
) -> None:
    engine: Engine = request.getfixturevalue(name)
    wanted = "nothing" if mode == "tool" else ""
    ended = 0
    for seed in range(2):
        choice = inference_pb2.ToolChoice(mode=mode, name=wanted, one_call=one_call)
        one = asked(
            tools=TOOLS,
            tool_choice=choice,
            constrain_calls=asked_for,
            temperature=1.0,
            seed=seed,
            max_new_tokens=200,
        )
        finish = finish_of(engine.generate(one))
        if not finish.malformed_tool_call:
            ended += 1
            assert finish.reason == "tool_calls"
            assert finish.content == ""
            assert len(finish.tool_calls) == 1 if one_call else len(finish.tool_calls) >= 1
        else:
            assert finish.usage.completion_tokens == 200
        for call in finish.tool_calls:
            assert wanted in ("", call.name)
            jsonschema.validate(json.loads(call.arguments_json), SCHEMA_OF[call.name])
    assert ended > 0


@pytest.mark.parametrize(
    "schema",
    ['{"type": "object", "not": {}}', '{"type": "object", "properties": {"a": {"pattern": "(?=a)"}}}'],
)
def test_a_call_that_has_to_be_made_of_a_tool_that_nothing_can_be_held_to_is_made(
    tiny: Engine, schema: str
) -> None:
    choice = inference_pb2.ToolChoice(mode="required", one_call=True)
    finish = finish_of(
        tiny.generate(asked(tools=[tool("f", schema)], tool_choice=choice, max_new_tokens=200))
    )
    assert [call.name for call in finish.tool_calls] == ["f"]
    held = asked(tools=[tool("f", schema)], tool_choice=choice, constrain_calls=True)
    with pytest.raises(TreniError) as refused:
        finish_of(tiny.generate(held))
    assert refused.value.kind == "schema_unsupported"


@pytest.mark.parametrize("name", ["engine", "spelled"])
def test_every_call_that_noise_makes_fits(name: str, request: pytest.FixtureRequest) -> None:
    engine: Engine = request.getfixturevalue(name)
    called = 0
    for seed in range(12):
        one = asked(tools=TOOLS, constrain_calls=True, temperature=2.0, seed=seed, max_new_tokens=250)
        finish = finish_of(engine.generate(one))
        cut = finish.usage.completion_tokens == 250
        assert cut or not finish.malformed_tool_call
        for call in finish.tool_calls:
            called += 1
            jsonschema.validate(json.loads(call.arguments_json), SCHEMA_OF[call.name])
    assert called > 0 or name == "spelled"  # to spell a tag takes more luck


def test_none_has_no_call_and_the_same_prompt(engine: Engine, spelled: Engine) -> None:
    for model in (engine, spelled):
        for seed in range(2):
            one = asked(tools=TOOLS, temperature=2.0, seed=seed, max_new_tokens=150)
            free = finish_of(model.generate(one))
            one.tool_choice.mode = "none"
            finish = finish_of(model.generate(one))
            assert (list(finish.tool_calls), finish.malformed_tool_call) == ([], "")
            assert finish.usage.prompt_tokens == free.usage.prompt_tokens


def test_one_call_ends_the_turn(engine: Engine) -> None:
    ended = 0
    for seed in range(20):
        one = asked(tools=TOOLS, constrain_calls=True, temperature=2.0, seed=seed, max_new_tokens=250)
        one.tool_choice.mode, one.tool_choice.one_call = "auto", True
        finish = finish_of(engine.generate(one))
        assert len(finish.tool_calls) <= 1
        if finish.tool_calls:
            ended += 1
            assert finish.text.endswith("</tool_call>")
    assert ended > 0


def test_an_answer_in_a_form_or_a_call(tiny: Engine) -> None:
    one = asked(
        "What is the port of Kestrel?", tools=TOOLS, constraint=schema({"const": "no"}), constrain_calls=True
    )
    finish = finish_of(tiny.generate(one))
    assert finish.reason == "tool_calls" or json.loads(finish.content) == "no"


def test_the_models_own_calls_are_what_they_are_without(tiny: Engine) -> None:
    """A call that fits is written with the same tokens, whichever of them stands across its parts."""
    arguments = {
        "type": "object",
        "properties": {"expression": {"type": "string"}},
        "required": ["expression"],
    }
    calculator = tool("calculator", json.dumps(arguments))
    calculator.description = "Works out an arithmetic expression."
    for question in ("What is 8 / 5?", "What is 12 * 7?", "How much is 31 + 4?"):
        free = finish_of(tiny.generate(asked(question, tools=[calculator])))
        held = finish_of(tiny.generate(asked(question, tools=[calculator], constrain_calls=True)))
        assert [token.id for token in held.tokens] == [token.id for token in free.tokens]
        assert held.constrained
        assert not free.constrained


def test_statistics_are_those_of_the_raw_logits(engine: Engine) -> None:
    one = asked(constraint=schema({"const": "abc"}), max_new_tokens=20, top_logprobs=20)
    finish = finish_of(engine.generate(one))
    assert json.loads(finish.content) == "abc"
    free = finish_of(engine.generate(asked(max_new_tokens=1, top_logprobs=20)))
    assert finish.tokens[0].entropy == free.tokens[0].entropy
    assert list(finish.tokens[0].top) == list(free.tokens[0].top)
    assert finish.tokens[0].id not in [choice.id for choice in free.tokens[0].top][:1]


@pytest.mark.parametrize("ahead", [0, 1])
def test_who_is_free_has_the_same_bits_beside_those_that_are_held(random_directory: Path, ahead: int) -> None:
    engine = Engine.load(random_directory, slots=6)
    free = [asked(f"Free {n}", temperature=1.0, seed=n, max_new_tokens=40) for n in range(2)]
    held = [
        asked(f"Held {n}", constraint=schema({"type": "string", "minLength": 30}), temperature=1.0, seed=n)
        for n in range(2)
    ]
    alone = [finish_of(engine.generate(one)) for one in (*free, *held)]
    watched = Watched(engine.runner, ahead=ahead)
    engine.runner = engine.scheduler.runner = watched
    heard = [Heard(one) for one in (*free, *held)]
    for one in heard:
        engine.scheduler.submit(engine.start(one.request, one))
    while engine.scheduler.step():
        pass
    for one, before in zip(heard, alone, strict=True):
        assert list(one.finished.tokens) == list(before.tokens)
    # All at once; ahead, those that are held take turns with each other beside those that are free.
    widest = max(len(call) - 1 for call in watched.calls if call[0] == "launch")
    assert widest == 4 if ahead == 0 else widest >= 3


def test_who_leaves_frees_the_slot_of_a_held_answer(random_directory: Path) -> None:
    engine = Engine.load(random_directory, slots=1)
    endless = asked(constraint=schema({"type": "string", "minLength": 500}), max_new_tokens=900)
    for _ in range(3):
        stream = engine.generate(endless)
        for _ in range(3):
            next(stream)
        assert engine.scheduler.slots.in_use == 1
        stream.close()
        assert engine.scheduler.slots.in_use == 0
    assert finish_of(engine.generate(asked(max_new_tokens=2))).usage.completion_tokens <= 2


def test_a_schema_that_turns_out_too_complex_ends_its_own_request_alone(engine: Engine) -> None:
    with pytest.raises(TreniError) as refused:
        list(engine.generate(asked(constraint=inference_pb2.Constraint(json_schema='{"$ref": "#"}'))))
    assert (refused.value.code, refused.value.kind) == (Code.INVALID_ARGUMENT, "schema_too_complex")
    assert finish_of(engine.generate(asked(max_new_tokens=2))).tokens


def test_a_cut_document_is_told_by_its_reason(engine: Engine) -> None:
    one = asked(constraint=schema({"type": "string", "minLength": 50}), max_new_tokens=5)
    finish = finish_of(engine.generate(one))
    assert (finish.reason, finish.usage.completion_tokens) == ("length", 5)


CALL = common_pb2.ToolSpec(name="f", parameters_json='{"type": "object", "properties": {}}')
IMPOSSIBLE: dict[str, tuple[dict[str, Any], str]] = {
    "no mode": ({"tool_choice": inference_pb2.ToolChoice()}, "tool_choice_invalid"),
    "another mode": ({"tool_choice": inference_pb2.ToolChoice(mode="any")}, "tool_choice_invalid"),
    "required of none": (
        {"tool_choice": inference_pb2.ToolChoice(mode="required")},
        "tool_choice_without_tools",
    ),
    "a tool of none": (
        {"tool_choice": inference_pb2.ToolChoice(mode="tool", name="f")},
        "tool_choice_unknown",
    ),
    "another tool": (
        {"tools": [CALL], "tool_choice": inference_pb2.ToolChoice(mode="tool", name="g")},
        "tool_choice_unknown",
    ),
    "a name for nothing": (
        {"tools": [CALL], "tool_choice": inference_pb2.ToolChoice(mode="auto", name="f")},
        "tool_choice_invalid",
    ),
    "no form": ({"constraint": inference_pb2.Constraint()}, "constraint_invalid"),
    "no object": ({"constraint": inference_pb2.Constraint(json_object=False)}, "constraint_invalid"),
    "form and call": (
        {
            "tools": [CALL],
            "constraint": inference_pb2.Constraint(json_object=True),
            "tool_choice": inference_pb2.ToolChoice(mode="required"),
        },
        "constraint_with_calls",
    ),
    "17 stops": ({"stop": ["x"] * 17}, "stop_invalid"),
    "an empty stop": ({"stop": [""]}, "stop_invalid"),
    "a long stop": ({"stop": ["x" * 257]}, "stop_invalid"),
    "21 alternatives": ({"top_logprobs": 21}, "top_logprobs_invalid"),
    "a budget for no thought": ({"thinking": inference_pb2.Thinking(budget_tokens=5)}, "thinking_invalid"),
}


@pytest.mark.parametrize("what", IMPOSSIBLE)
def test_the_impossible_is_refused_by_name_before_anything_runs(engine: Engine, what: str) -> None:
    fields, kind = IMPOSSIBLE[what]
    with pytest.raises(TreniError) as refused:
        engine.start(asked(**fields), Heard(asked()))
    assert (refused.value.code, refused.value.kind) == (Code.INVALID_ARGUMENT, kind)


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"constraint": schema({"not": {}})}, "schema_unsupported"),
        (
            {"tools": [tool("f", '{"type": "object", "not": {}}')], "constrain_calls": True},
            "schema_unsupported",
        ),
        ({"thinking": inference_pb2.Thinking(enabled=True)}, "thinking_unsupported"),
    ],
)
def test_what_the_model_and_its_grammar_cannot_do_is_refused(
    engine: Engine, fields: dict[str, Any], kind: str
) -> None:
    with pytest.raises(TreniError) as refused:
        next(engine.generate(asked(**fields)))
    assert (refused.value.code, refused.value.kind) == (Code.INVALID_ARGUMENT, kind)

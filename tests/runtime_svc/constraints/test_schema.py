"""Every document that a schema's grammar lets through fits the schema, and what can't be held to is refused by name."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import runtime_svc
from runtime_svc.constraints.compiler import MAX_CACHED, Compiler
from runtime_svc.constraints.grammar import grammars_of
from runtime_svc.model import Model, open_model
from tests.runtime_svc.constraints.schemas import SCHEMAS, walk
from treni.errors import Code, TreniError
from treni.v1 import inference_pb2

BUNDLED = Path(runtime_svc.__file__).parent / "checkpoints" / "treni-tiny"


@pytest.fixture(scope="module")
def model() -> Model:
    return open_model(BUNDLED)


@pytest.fixture(scope="module")
def compiler(model: Model) -> Compiler:
    config = model.checkpoint.config
    return Compiler(model.tokenizer, vocabulary=config.vocabulary, ends=config.eos_ids)


def grammar(model: Model, schema: Any) -> str:
    text = schema if isinstance(schema, str) else json.dumps(schema)
    request = inference_pb2.GenerateRequest(constraint=inference_pb2.Constraint(json_schema=text))
    ends = model.checkpoint.config.eos_ids
    (one,) = grammars_of(request, markers=model.tokenizer.markers, ends=ends, thinking=False)
    return one


def check_walk(model: Model, compiler: Compiler, schema: Any, seed: int) -> None:
    ends = set(model.checkpoint.config.eos_ids)
    text = walk(compiler, grammar(model, schema), model.tokenizer, ends, seed)
    if text is not None:
        jsonschema.Draft202012Validator(schema).validate(json.loads(text))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(schema=SCHEMAS, seed=st.integers(0, 2**32))
def test_whatever_comes_out_fits(model: Model, compiler: Compiler, schema: Any, seed: int) -> None:
    check_walk(model, compiler, schema, seed)


@pytest.mark.soak
@settings(max_examples=4000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(schema=SCHEMAS, seed=st.integers(0, 2**32))
def test_whatever_comes_out_of_many_schemas_fits(
    model: Model, compiler: Compiler, schema: Any, seed: int
) -> None:
    check_walk(model, compiler, schema, seed)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "number", "exclusiveMinimum": 0, "maximum": 0.125},
        {"type": "number", "exclusiveMinimum": 0, "maximum": 3},
        {"type": "number", "exclusiveMinimum": 1, "exclusiveMaximum": 1.5},
        {"type": "number", "minimum": -0.25, "exclusiveMaximum": 0.0},
        {"type": "number", "minimum": -1.5, "exclusiveMaximum": -1},
        {"type": "number", "exclusiveMinimum": -1, "exclusiveMaximum": 0},
        {"type": "number", "allOf": [{"exclusiveMinimum": 0}, {"maximum": 0.5}]},
        {"type": "number", "allOf": [{"maximum": 0.5}], "exclusiveMinimum": 0},
        {"minimum": -0.5, "allOf": [{"type": "number", "exclusiveMaximum": 0}]},
    ],
    ids=json.dumps,
)
def test_an_excluded_number_does_not_come(model: Model, compiler: Compiler, schema: Any) -> None:
    numbers = ("0", "-0", "0.0", "-0.0", "1", "1.0", "-1", "-1.00", "0.125", "1.25", "-0.25", "-1.5")
    taken = [number for number in numbers if is_taken(model, compiler, grammar(model, schema), number)]
    assert taken
    for number in taken:
        jsonschema.validate(json.loads(number), schema)
    for seed in range(20):
        check_walk(model, compiler, schema, seed)


def is_taken(model: Model, compiler: Compiler, grammar: str, text: str) -> bool:
    """Whether the text is a whole document of the grammar."""
    matcher = compiler.matcher(grammar)
    for token in [*model.tokenizer.encode(text), min(model.checkpoint.config.eos_ids)]:
        allowed = matcher.allowed()
        if allowed is not None and not allowed[token // 32] >> token % 32 & 1:
            return False
        if token not in model.checkpoint.config.eos_ids:
            matcher.accept(token)
    return True


UNSUPPORTED = {
    "not": {"not": {"type": "string"}},
    "if": {"if": {"type": "string"}},
    "uniqueItems": {"type": "array", "uniqueItems": True},
    "contains": {"type": "array", "contains": {}},
    "propertyNames": {"type": "object", "propertyNames": {"pattern": "a"}},
    "dependentRequired": {"type": "object", "dependentRequired": {"a": ["b"]}},
    "unevaluatedProperties": {"type": "object", "unevaluatedProperties": False},
    "$dynamicRef": {"$dynamicRef": "#a"},
    "x-guidance": {"type": "object", "x-guidance": {"lenient": True}},
}


@pytest.mark.parametrize("keyword", UNSUPPORTED)
@pytest.mark.parametrize("nested", [False, True])
def test_an_unsupported_keyword_is_refused_by_name(model: Model, keyword: str, nested: bool) -> None:
    schema = {"properties": {"a": UNSUPPORTED[keyword]}} if nested else UNSUPPORTED[keyword]
    with pytest.raises(TreniError) as refused:
        grammar(model, schema)
    assert (refused.value.code, refused.value.kind) == (Code.INVALID_ARGUMENT, "schema_unsupported")
    assert refused.value.got == f"{keyword} at {'/properties/a' if nested else '/'}"


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "strin"},
        {"type": "string", "format": "martian"},
        {"$ref": "#/$defs/none"},
        {"$ref": "http://example.com/schema"},
        {"type": "integer", "minimum": 3, "maximum": 2},
        {"enum": []},
        {"type": "string", "pattern": "(?=a)b"},
        {"type": "string", "pattern": "("},
        {"type": "object", "properties": 3},
        {"type": "object", "required": 7},
        {"type": 12},
        {"type": "number", "minimum": "low"},
        {"allOf": {}},
        {"anyOf": [3]},
        {"oneOf": [{"type": "string"}, {"minLength": 2}]},
    ],
)
def test_what_is_no_sound_schema_is_refused(model: Model, compiler: Compiler, schema: Any) -> None:
    with pytest.raises(TreniError) as refused:
        compiler.matcher(grammar(model, schema))
    assert (refused.value.code, refused.value.kind) == (Code.INVALID_ARGUMENT, "schema_unsupported")
    assert refused.value.got


@pytest.mark.parametrize(
    "text", ["", "true", "[]", '{"a": 1, "a": 2}', '{"minimum": NaN}', "{", '{"x":' * 5000]
)
def test_what_is_no_json_object_is_refused(model: Model, text: str) -> None:
    with pytest.raises(TreniError) as refused:
        grammar(model, text)
    assert (refused.value.code, refused.value.kind) == (Code.INVALID_ARGUMENT, "schema_invalid")


def _deep(levels: int, outer: str = '{"items": ') -> str:
    return outer * levels + "{}" + "}" * levels


LARGE = {
    "bytes": json.dumps({"description": "x" * 70_000}),
    "depth": _deep(40),
    "values": json.dumps({"enum": list(range(1001))}),
    "properties": json.dumps({"properties": {f"p{i}": {} for i in range(201)}}),
    "schemas": json.dumps({"anyOf": [{"type": "string"}] * 1001}),
    "patterns": json.dumps({"allOf": [{"pattern": f".*{c}.*"} for c in "abcdefghijklmnopqrst"]}),
    "keys": json.dumps({"patternProperties": {f".*{c}.*": {} for c in "abc"}}),
}


@pytest.mark.parametrize("what", LARGE)
def test_a_schema_that_is_too_large_is_refused(model: Model, what: str) -> None:
    with pytest.raises(TreniError) as refused:
        grammar(model, LARGE[what])
    assert (refused.value.code, refused.value.kind) == (Code.INVALID_ARGUMENT, "schema_too_large")


HOSTILE: dict[str, Any] = {
    "repetitions": {"type": "string", "pattern": "^(a{1,1000}){1,1000}$"},
    "alternatives": {"type": "string", "pattern": "^(a|aa|b.*c|.*d){1,500}$"},
    "two patterns": {"allOf": [{"pattern": "(.*a.*b.*c.*){5}"}, {"pattern": "(.*d.*e.*f.*){7}"}]},
    "lengths": {"type": "string", "minLength": 10**6, "maxLength": 10**7},
    "items": {"type": "array", "items": {"type": "integer"}, "minItems": 10**6, "maxItems": 10**9},
    "itself": {"$ref": "#"},
    "branches": {
        "allOf": [{"anyOf": [{"required": [f"p{i}"]}, {"properties": {f"q{i}": {}}}]} for i in range(16)]
    },
    "multiples": {"type": "integer", "multipleOf": 982451653},
    "doubling": {
        "$defs": {
            f"d{i}": {"type": "object", "properties": {key: {"$ref": f"#/$defs/d{i - 1}"} for key in "ab"}}
            for i in range(1, 40)
        }
        | {"d0": {"type": "string"}},
        "$ref": "#/$defs/d39",
    },
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_schema_costs_little(model: Model, compiler: Compiler, kind: str) -> None:
    before_s = time.thread_time()
    refused = ""
    try:
        walk(compiler, grammar(model, HOSTILE[kind]), model.tokenizer, set(), 1, limit=60)
    except TreniError as error:
        refused = error.kind
    assert refused in ("", "schema_unsupported", "schema_too_complex")
    assert time.thread_time() - before_s < 10  # measured: 0.2 s


def test_what_is_compiled_is_kept_up_to_a_bound(model: Model) -> None:
    config = model.checkpoint.config
    compiler = Compiler(model.tokenizer, vocabulary=config.vocabulary, ends=config.eos_ids)
    for number in range(MAX_CACHED + 5):
        compiler.matcher(grammar(model, {"const": number}))
    assert len(compiler._compiled) == MAX_CACHED


@pytest.mark.parametrize(
    ("schema", "text", "fits"),
    [
        ({"type": "object", "properties": {"a": {}}}, '{"a": 1e9}', False),
        ({"type": "object", "properties": {"a": {}}}, '{"a": 12.5}', True),
        ({"type": "object", "properties": {"a": {}}}, '{"b": 1}', False),
        (
            {"type": "object", "properties": {"a": {}}, "additionalProperties": True},
            '{"b": [{"c": null}]}',
            True,
        ),
        ({"type": "object"}, '{"b": [{"c": null}]}', True),
        ({"type": "integer"}, "9007199254740991", True),
        ({"type": "integer"}, "9007199254740992", False),
        ({"type": "array", "items": {"type": "integer"}}, "[1,\n                                2]", True),
        ({"type": "array", "items": {"type": "integer"}}, "[1,   2]", False),
        ({"type": "array", "items": {"type": "integer"}}, "[1,\n\n2]", False),
        ({"type": "string"}, ' "a"', False),
        ({"type": "string"}, '"\\ud800"', False),
        ({"title": "t", "description": "d", "default": 1, "type": "null"}, "null", True),
        ({"type": "array", "items": {}, "uniqueItems": False, "maxItems": 1}, "[1]", True),
    ],
)
def test_what_a_grammar_lets_through(
    model: Model, compiler: Compiler, schema: Any, text: str, fits: bool
) -> None:
    matcher = compiler.matcher(grammar(model, schema))
    tokens = model.tokenizer.encode(text)
    ends = min(model.checkpoint.config.eos_ids)
    for token in [*tokens, ends]:
        words = matcher.allowed()
        if words is not None and not words[token // 32] >> token % 32 & 1:
            assert not fits
            return
        if token != ends:
            matcher.accept(token)
    assert fits


def test_a_mask_has_a_bit_for_every_token_and_is_left_out_where_all_are_set(
    model: Model, compiler: Compiler
) -> None:
    words = compiler.matcher(grammar(model, {"const": 1})).allowed()
    assert words is not None
    assert words.shape == (1024 // 32,)
    for vocabulary in (1024, 1030):
        wider = Compiler(model.tokenizer, vocabulary=vocabulary, ends=model.checkpoint.config.eos_ids)
        call = model.tokenizer.markers["<tool_call>"]
        free = wider.matcher(f"start: (other | call)*\nother: <[^{call}]>\ncall: <[{call}]>\n")
        assert free.allowed() is None

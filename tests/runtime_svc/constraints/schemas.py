"""Schemas of every kind that decoding can be held to, made up, and walks through their grammars."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
from hypothesis import strategies as st

from runtime_svc.constraints.compiler import Compiler
from runtime_svc.tokens.tokenizer import Tokenizer

Schema = dict[str, Any]

NAMES = st.sampled_from(["a", "b", "name", "größe", 'q"uote', "two words", "back\\slash", "$ref", "tab\t"])
VALUES = st.sampled_from(
    [None, True, False, 0, -1, 7, 2.5, "", "x", 'say "hi"', "naïve", [1, "a"], {"k": [True]}, 1e3]
)


def _strings() -> st.SearchStrategy[Schema]:
    sizes = st.fixed_dictionaries(
        {}, optional={"minLength": st.integers(0, 3), "maxLength": st.integers(3, 8)}
    )
    patterns = st.sampled_from(["^[a-z]{2,4}$", "^(red|green)$", "[0-9]", "^$", "^[^x]*$"]).map(
        lambda p: {"pattern": p}
    )
    formats = st.sampled_from(["date", "time", "date-time", "uuid", "ipv4"]).map(lambda f: {"format": f})
    return st.one_of(sizes, patterns, formats).map(lambda more: {"type": "string", **more})


def _numbers() -> st.SearchStrategy[Schema]:
    def bounds(low: float, width: float, exclusive: bool, sides: str) -> Schema:
        keys = ("exclusiveMinimum", "exclusiveMaximum") if exclusive else ("minimum", "maximum")
        given = {keys[0]: low, keys[1]: low + width}
        return {key: value for key, value in given.items() if key[-7:] in sides}

    sides = st.sampled_from(["minimum maximum Minimum Maximum", "minimum Minimum", "maximum Maximum", ""])
    integers = st.builds(bounds, st.integers(-1000, 1000), st.integers(2, 500), st.booleans(), sides)
    floats = st.builds(
        bounds,
        st.integers(-400, 400).map(lambda n: n / 8),
        st.integers(1, 80).map(lambda n: n / 4),
        st.booleans(),
        sides,
    )
    multiples = st.sampled_from([2, 5, 10]).map(lambda n: {"type": "integer", "multipleOf": n})
    return st.one_of(
        integers.map(lambda more: {"type": "integer", **more}),
        floats.map(lambda more: {"type": "number", **more}),
        multiples,
    )


def _objects(inner: st.SearchStrategy[Schema]) -> st.SearchStrategy[Schema]:
    def made(properties: dict[str, Schema], wanted: list[bool], more: Schema) -> Schema:
        required = [name for name, want in zip(properties, wanted, strict=False) if want]
        return {"type": "object", "properties": properties, "required": required, **more}

    others: st.SearchStrategy[Schema] = st.one_of(
        st.just({}),
        st.just({"additionalProperties": False}),
        inner.map(lambda s: {"additionalProperties": s}),
    )
    return st.builds(
        made,
        st.dictionaries(NAMES, inner, max_size=4),
        st.lists(st.booleans(), min_size=4, max_size=4),
        others,
    )


def _arrays(inner: st.SearchStrategy[Schema]) -> st.SearchStrategy[Schema]:
    sizes = st.tuples(st.integers(0, 2), st.integers(0, 2)).map(
        lambda n: {"minItems": n[0], "maxItems": n[0] + n[1]}
    )
    lists = st.builds(lambda items, size: {"type": "array", "items": items, **size}, inner, sizes)
    tuples = st.lists(inner, min_size=1, max_size=2).map(
        lambda several: {"type": "array", "prefixItems": several, "items": False, "minItems": len(several)}
    )
    return st.one_of(lists, tuples)


_LEAVES: st.SearchStrategy[Schema] = st.one_of(
    _strings(),
    _numbers(),
    st.sampled_from(
        [
            {"type": "boolean"},
            {"type": "null"},
            {"type": ["string", "null"]},
            {"type": ["integer", "boolean"]},
        ]
    ),
    VALUES.map(lambda value: {"const": value}),
    st.lists(VALUES, min_size=1, max_size=4).map(lambda values: {"enum": values}),
)

_INNER: st.SearchStrategy[Schema] = st.recursive(
    _LEAVES,
    lambda inner: st.one_of(
        _objects(inner),
        _arrays(inner),
        st.lists(inner, min_size=1, max_size=3).map(lambda several: {"anyOf": several}),
    ),
    max_leaves=6,
)

_LIST = {
    "type": "object",
    "properties": {"value": {"$ref": "#/$defs/leaf"}, "next": {"$ref": "#/$defs/list"}},
    "required": ["value"],
}

SCHEMAS: st.SearchStrategy[Schema] = st.one_of(
    _objects(_INNER),
    _arrays(_INNER),
    _INNER,
    _LEAVES.map(lambda leaf: {"$ref": "#/$defs/list", "$defs": {"leaf": leaf, "list": _LIST}}),
    st.builds(lambda one, two: {"allOf": [_with_one("one", one), _with_one("two", two)]}, _LEAVES, _LEAVES),
)
"""JSON schemas, nested a little, with a $ref here and there."""


def _with_one(name: str, schema: Schema) -> Schema:
    return {"type": "object", "properties": {name: schema}, "required": [name]}


def walk(
    compiler: Compiler, grammar: str, tokenizer: Tokenizer, ends: set[int], seed: int, *, limit: int = 4000
) -> str | None:
    """The text of a random walk through the grammar that ends as soon as it may, mostly; None beyond `limit` tokens."""
    matcher, draw, text = compiler.matcher(grammar), random.Random(seed), bytearray()
    for _ in range(limit):
        words = matcher.allowed()
        assert words is not None
        bits = np.unpackbits(words.view(np.uint8), bitorder="little")
        allowed = [int(token) for token in np.flatnonzero(bits)]
        if any(token in ends for token in allowed) and (len(allowed) <= len(ends) or draw.random() < 0.7):
            return text.decode()
        allowed = [token for token in allowed if token not in ends]
        closing = [t for t in allowed if tokenizer.bytes_of(t)[:1] in (b'"', b"}", b"]")]
        token = draw.choice(closing if closing and draw.random() < 0.4 else allowed)
        matcher.accept(token)
        text += tokenizer.bytes_of(token)
    return None

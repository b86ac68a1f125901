"""A JSON schema as it is decoded by: checked before anything is made of it, and narrowed where JSON alone is too wide.

What comes out fits the schema that went in, always; not everything that would fit can come out:

* an object with `properties` that says nothing of `additionalProperties` has no others;
* a bound that is a whole number and excluded, with the other one less than 1 away, is moved inwards by 1e-9: llguidance
  1.9 would let 0 pass as over 0 and under 0.5, and -0 as under 0;
* a number whose size nothing bounds has at most 15 digits before its point and no exponent, an integer is one that
  every JSON parser reads exactly (RFC 7493): 1e999 is JSON, and infinity to most who read it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any, TypeGuard

from runtime_svc.toolcalls import parse_object
from treni.errors import TreniError, invalid_argument

MAX_BYTES = 64 * 1024
MAX_DEPTH = 32
MAX_SCHEMAS = 1000
MAX_PROPERTIES = 200
MAX_VALUES = 1000
MAX_PATTERNS = 16
MAX_JOINED_PATTERNS = 2
"""Regular expressions in a schema that joins schemas by `allOf` and its like: what several have in common is searched
for, which takes gigabytes for twenty of them."""

LARGEST_NUMBER, LARGEST_INTEGER, SMALLEST_NUMBER = 10**15, 2**53 - 1, 1e-9

_UNSUPPORTED = frozenset(
    {
        "$anchor",
        "$dynamicAnchor",
        "$dynamicRef",
        "$id",
        "$recursiveRef",
        "additionalItems",
        "contains",
        "dependencies",
        "dependentRequired",
        "dependentSchemas",
        "else",
        "if",
        "maxContains",
        "minContains",
        "not",
        "propertyNames",
        "then",
        "unevaluatedItems",
        "unevaluatedProperties",
        "x-guidance",
    }
)
_ANNOTATIONS = frozenset(
    {
        "$comment",
        "$defs",
        "$schema",
        "default",
        "definitions",
        "deprecated",
        "description",
        "examples",
        "readOnly",
        "title",
        "writeOnly",
    }
)
_ONE, _LIST, _NAMED = (
    ("additionalProperties", "items"),
    ("allOf", "anyOf", "oneOf", "prefixItems"),
    ("$defs", "definitions", "patternProperties", "properties"),
)
_CHOOSING = ("$ref", "allOf", "anyOf", "const", "enum", "oneOf")
_JOINING = ("$ref", "allOf", "anyOf", "oneOf")
_TYPES = ("null", "boolean", "string", "number", "array", "object")
_ANYTHING = "treni-route.anything"

Schema = dict[str, Any]


def narrowed(text: str, where: str, *, root: str = "#") -> Schema:
    """The schema in `text`, as a grammar is made of it, to stand at the place `root` of a larger one.

    Raises INVALID_ARGUMENT, with `where` it stands: "schema_invalid" for what is no JSON object, "schema_too_large" and
    "schema_unsupported" naming the keyword and where in the schema it is.
    """
    if len(text.encode()) > MAX_BYTES:
        raise _too_large(where, f"{MAX_BYTES} bytes", f"{len(text.encode())}")
    try:
        schema = parse_object(text)
    except ValueError as error:
        raise invalid_argument(
            "schema_invalid", expected=f"a JSON schema, an object, in {where}", got=str(error)
        ) from None
    joins = _check(schema, where)
    try:
        narrow = _Narrowing(joins=joins, root=root).whole(schema)
        json.dumps([[[[[[[[narrow]]]]]]]])  # it will stand in a larger one
    except RecursionError:  # a value in it that is nested as deeply as could be read
        raise _too_large(where, "what can be written again", "deeper nesting") from None
    return narrow


def any_object(*, root: str = "#") -> Schema:
    """The schema of any object, to stand at the place `root` of a larger one."""
    return _Narrowing(joins=False, root=root).whole({"type": "object"})


def _check(schema: Schema, where: str) -> bool:
    """Whether the schema joins others anywhere; refuses one that is too large or has what is not supported."""
    patterns = count = 0
    joins = keyed = False
    for path, depth, one in _schemas(schema):
        at = path[:120] or "/"
        count += 1
        if depth > MAX_DEPTH:
            raise _too_large(where, f"{MAX_DEPTH} schemas one in another", "more")
        unsupported = sorted(_UNSUPPORTED & one.keys())
        if one.get("uniqueItems"):
            unsupported.append("uniqueItems")
        if unsupported:
            raise invalid_argument(
                "schema_unsupported",
                expected=f"keywords that decoding can be held to in {where}",
                got=f"{unsupported[0]} at {at}",
                todo="leave it out, and check the answer for it",
            )
        if _size(one, "properties") > MAX_PROPERTIES:
            raise _too_large(where, f"{MAX_PROPERTIES} properties of one object", f"more at {at}")
        if _size(one, "enum") > MAX_VALUES:
            raise _too_large(where, f"{MAX_VALUES} values in one enum", f"more at {at}")
        patterns += ("pattern" in one) + ("format" in one) + _size(one, "patternProperties")
        joins, keyed = joins or _joins(one), keyed or "patternProperties" in one
    if count > MAX_SCHEMAS:
        raise _too_large(where, f"{MAX_SCHEMAS} schemas in all", f"{count}")
    most = MAX_JOINED_PATTERNS if joins or keyed else MAX_PATTERNS
    if patterns > most:
        together = " where schemas are joined" if joins or keyed else ""
        raise _too_large(where, f"{most} patterns and formats{together}", f"{patterns}")
    return joins


def _schemas(value: object) -> Iterator[tuple[str, int, Schema]]:
    """Every schema in the schema `value`, itself the first, with its place and how many it stands in."""
    pending: list[tuple[str, int, object]] = [("", 0, value)]
    while pending:
        at, depth, one = pending.pop()
        if not isinstance(one, dict):
            continue
        yield at, depth, one
        for key in (*_ONE, *_LIST):
            value = one.get(key)
            if isinstance(value, list):
                pending += [(f"{at}/{key}/{index}", depth + 1, inner) for index, inner in enumerate(value)]
            else:
                pending.append((f"{at}/{key}", depth + 1, value))
        for key in _NAMED:
            named = one.get(key)
            if isinstance(named, dict):
                pending += [(f"{at}/{key}/{name}", depth + 1, inner) for name, inner in named.items()]


def _size(schema: Schema, key: str) -> int:
    value = schema.get(key)
    return len(value) if isinstance(value, list | dict) else 0


def _joins(schema: Mapping[str, Any]) -> bool:
    """Whether what fits has to fit several schemas at once."""
    if "allOf" in schema:
        return True
    others = schema.keys() - _ANNOTATIONS
    return any(key in others for key in _JOINING) and len(others) > 1


class _Narrowing:
    """`joins`: some schema joins others, so that none can be closed by itself. `root`: where the whole one stands."""

    def __init__(self, *, joins: bool, root: str) -> None:
        self._joins = joins
        self._root = root
        self._open = False

    def whole(self, schema: Schema) -> Schema:
        narrow: Schema = self.one(schema)
        if self._open:
            anything = {"type": list(_TYPES), "minimum": -LARGEST_NUMBER, "maximum": LARGEST_NUMBER}
            anything |= {"items": self._any(), "additionalProperties": self._any()}
            narrow["$defs"] = {**narrow.get("$defs", {}), _ANYTHING: anything}
        return narrow

    def one(self, schema: Any) -> Any:
        """The schema `schema`, which may also be true, false or no schema at all."""
        if not isinstance(schema, dict):
            return self._any() if schema is True and not self._joins else schema
        if not self._joins and not schema.keys() - _ANNOTATIONS:
            return {**self._inner(schema), **self._any()}
        return self._open_ends(self._inner(schema))

    def _inner(self, schema: Schema) -> Schema:
        inner: Schema = {}
        for key, value in schema.items():
            if key == "uniqueItems":  # false
                continue
            if key == "$ref" and isinstance(value, str) and value.startswith("#"):
                inner[key] = self._root + value[1:]
            elif key in _ONE:
                inner[key] = [self.one(one) for one in value] if isinstance(value, list) else self.one(value)
            elif key in _LIST and isinstance(value, list):
                inner[key] = [self.one(one) for one in value]
            elif key in _NAMED and isinstance(value, dict):
                inner[key] = {name: self.one(one) for name, one in value.items()}
            else:
                inner[key] = value
        return inner

    def _open_ends(self, schema: Schema) -> Schema:
        if "const" not in schema and "enum" not in schema:
            _exclude_whole_bounds(schema, alone=not self._joins)
        if any(key in schema for key in _CHOOSING):
            return schema
        kinds = schema.get("type", list(_TYPES))
        kinds = kinds if isinstance(kinds, list) else [kinds]
        if "number" in kinds or "integer" in kinds:
            _bound(schema, LARGEST_NUMBER if "number" in kinds else LARGEST_INTEGER)
        if self._joins:
            return schema
        if "object" in kinds and "additionalProperties" not in schema:
            declared = schema.get("properties")
            required = schema.get("required", [])
            closed = isinstance(declared, dict) and all(name in declared for name in map(str, required))
            schema["additionalProperties"] = False if closed else self._any()
        if "array" in kinds and "items" not in schema:
            schema["items"] = self._any()
        return schema

    def _any(self) -> Schema:
        self._open = True
        return {"$ref": f"{self._root}/$defs/{_ANYTHING}"}


def _exclude_whole_bounds(schema: Schema, *, alone: bool) -> None:
    """Moves excluded whole numbers inwards; `alone`: only where the schema's other bound is less than 1 away.

    A schema that is joined with others may get its other bound from them.
    """
    low = max(
        (one for key in ("minimum", "exclusiveMinimum") if _is_movable(one := schema.get(key))),
        default=-math.inf,
    )
    high = min(
        (one for key in ("maximum", "exclusiveMaximum") if _is_movable(one := schema.get(key))),
        default=math.inf,
    )
    if not high > low or (alone and high - low >= 1):
        return
    for key, inwards in (("exclusiveMinimum", 1), ("exclusiveMaximum", -1)):
        bound = schema.get(key)
        if _is_movable(bound) and bound == int(bound):
            schema[key] = bound + inwards * min(max(SMALLEST_NUMBER, math.ulp(bound)), (high - low) / 2)


def _is_movable(bound: object) -> TypeGuard[int | float]:
    """Whether it is a number that a double can be moved from."""
    return isinstance(bound, int | float) and not isinstance(bound, bool) and abs(bound) <= LARGEST_NUMBER


def _bound(schema: Schema, largest: int) -> None:
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    high = schema.get("maximum", schema.get("exclusiveMaximum"))
    if high is None and not (isinstance(low, int | float) and low >= largest):
        schema["maximum"] = largest
    if low is None and not (isinstance(high, int | float) and high <= -largest):
        schema["minimum"] = -largest


def _too_large(where: str, most: str, got: str) -> TreniError:
    return invalid_argument(
        "schema_too_large", expected=f"at most {most} in {where}", got=got, todo="use a smaller schema"
    )

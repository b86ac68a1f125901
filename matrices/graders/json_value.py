"""JSON by value: the order of keys, white space and the way a number is written make no difference."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Literal, NoReturn

import referencing
from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError
from pydantic import Field, PrivateAttr, model_validator

from matrices.graders.grader import Grader, GraderEntry

_FENCE = re.compile(r"^[ \t]{0,3}```[^\n`]*$", re.MULTILINE)


class JsonValue(Grader):
    """Reads the answer as JSON (the whole text, or its only fenced code block) and compares values.

    `match` says what of it must be as expected: "equal" everything, "subset" at least every key of the expected
    objects, "schema" nothing but the `schema`, of which the expected answer is an example. With the other two a
    `schema` (JSON Schema 2020-12) must hold besides. 1 and 1.0 are equal, true and 1 are not; strings are compared
    in normal form C. A key given twice, NaN and infinities are no JSON.
    """

    match: Literal["equal", "subset", "schema"] = "equal"
    json_schema: dict[str, Any] | bool | None = Field(default=None, alias="schema")

    _validator: Draft202012Validator | None = PrivateAttr(default=None)

    @model_validator(mode="after")
    def _usable(self) -> JsonValue:
        if self.json_schema is None:
            if self.match == "schema":
                raise ValueError('a "schema" is needed to match "schema"')
            return self
        try:
            Draft202012Validator.check_schema(self.json_schema)
        except SchemaError as error:
            raise ValueError(f"no JSON schema: {error.message[:200]}") from None
        # Without a registry of its own the validator would fetch what the schema refers to.
        self._validator = Draft202012Validator(self.json_schema, registry=referencing.Registry())
        return self

    def refuse(self, expected: str) -> None:
        """Raises `ValueError` for an expected answer that is no JSON, or does not fit the schema."""
        _exact(expected)
        if not self._fits(expected):
            raise ValueError("an expected answer that fits the schema")

    def is_correct(self, answer: str, *, expected: str) -> bool:
        """Whether the answer is JSON of the expected value, or as much of it as `match` asks for."""
        text = _json_in(answer)
        try:
            got, want = _exact(text), _exact(_json_in(expected))
        except ValueError:
            return False
        if not self._fits(text):
            return False
        return self.match == "schema" or _alike(want, got, subset=self.match == "subset")

    def _fits(self, text: str) -> bool:
        if self._validator is None:
            return True
        try:
            return self._validator.is_valid(_parsed(_json_in(text), float, int))
        except (ValueError, ArithmeticError, RecursionError, referencing.exceptions.Unresolvable):
            return False


def _json_in(answer: str) -> str:
    """The text of the answer's only fenced code block, or else the whole of it."""
    fences = list(_FENCE.finditer(answer))
    if len(fences) == 2:
        return answer[fences[0].end() : fences[1].start()]
    return answer.strip().removeprefix("\ufeff")


def _exact(text: str) -> Any:
    """The value with numbers as they are written, to any size. Raises `ValueError` for what is no JSON."""
    return _parsed(_json_in(text), Decimal, Decimal)


def _parsed(text: str, fraction: Callable[[str], Any], whole: Callable[[str], Any]) -> Any:
    try:
        return json.loads(
            text,
            parse_float=fraction,
            parse_int=whole,
            parse_constant=_no_constant,
            object_pairs_hook=_unique,
        )
    except RecursionError:
        raise ValueError("JSON that is not nested so deep") from None
    except ArithmeticError:
        raise ValueError("numbers that are not that large") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"an expected answer in JSON: {error}") from None


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"JSON, which has no {name}")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = {unicodedata.normalize("NFC", key): value for key, value in pairs}
    if len(made) < len(pairs):
        raise ValueError("each key of an object once")
    return made


def _alike(want: Any, got: Any, *, subset: bool) -> bool:
    """Whether the values are equal; level by level and without recursion, since an answer may be nested deep."""
    todo = [(want, got)]
    while todo:
        one, other = todo.pop()
        if isinstance(one, dict) and isinstance(other, dict):
            if one.keys() != other.keys() and not (subset and one.keys() <= other.keys()):
                return False
            todo += [(value, other[key]) for key, value in one.items()]
        elif isinstance(one, list) and isinstance(other, list):
            if len(one) != len(other):
                return False
            todo += zip(one, other, strict=True)
        elif isinstance(one, str) and isinstance(other, str):
            if unicodedata.normalize("NFC", one) != unicodedata.normalize("NFC", other):
                return False
        elif type(one) is not type(other) or one != other:
            return False
    return True


ENTRY = GraderEntry(name="json", grader=JsonValue)

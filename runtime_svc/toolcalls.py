"""Reads the tool calls that a model wrote. Never guesses and never raises."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NoReturn

from treni.markup import END_CALL, Block, read
from treni.v1 import common_pb2

_MAX_DIGITS = 308
"""What a double can hold: a longer integer is a number to no other JSON parser."""

_SURROGATE = re.compile("[\ud800-\udfff]")
_SPACE = re.compile(r"[ \t\r\n]*")


@dataclass(frozen=True, kw_only=True, slots=True)
class ParsedCalls:
    """The calls that could be parsed, in order, and why another could not ("" when all could)."""

    calls: tuple[common_pb2.ToolCall, ...]
    malformed: str


def parse_tool_calls(text: str) -> ParsedCalls:
    """Every `<tool_call>{"name": ..., "arguments": {...}}</tool_call>` that a completion spells; see `parse_blocks`.

    What the model only thought or quoted is none.
    """
    return parse_blocks(read(text).blocks)


def parse_blocks(blocks: Iterable[Block]) -> ParsedCalls:
    """The calls in the blocks of a completion.

    `arguments_json` is the object's text exactly as written. The first block that is not such a call is
    described in `malformed`; the others still count.
    """
    calls: list[common_pb2.ToolCall] = []
    malformed = ""
    for number, block in enumerate(blocks, start=1):
        try:
            if block.inside is None:
                raise ValueError(f"no {END_CALL} follows")
            calls.append(_parse_call(block.inside))
        except (ValueError, RecursionError) as error:
            reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
            malformed = malformed or f"tool call {number}: {reason}"
    return ParsedCalls(calls=tuple(calls), malformed=malformed)


def parse_object(text: str) -> dict[str, object]:
    """A JSON object, strictly: numbers are finite, text is Unicode, no key comes twice.

    Raises ValueError that says what is wrong.
    """
    try:
        value = _DECODER.decode(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(value, dict):
        raise ValueError(f"{_json_type(value)} where an object belongs")  # noqa: TRY004
    if "\\u" in text:
        _check_unicode(value)
    return value


def _check_unicode(value: dict[str, object]) -> None:
    """Raises ValueError for half of a surrogate pair: an escape can write what no UTF-8 can hold."""
    pending: list[tuple[str, object]] = [("", value)]
    while pending:
        path, item = pending.pop()
        if isinstance(item, str):
            if _SURROGATE.search(item):
                raise ValueError(f"half a surrogate pair at {path[:80] or '/'}: {item[:40]!a}")
        elif isinstance(item, dict):
            for key, member in item.items():
                if _SURROGATE.search(key):
                    raise ValueError(f"half a surrogate pair in a key at {path[:80] or '/'}: {key[:40]!a}")
                pending.append((f"{path}/{key}", member))
        elif isinstance(item, list):
            pending += [(f"{path}/{index}", member) for index, member in enumerate(item)]


def _parse_call(block: str) -> common_pb2.ToolCall:
    call = parse_object(block)
    name, arguments = call.get("name"), call.get("arguments")
    if not isinstance(name, str) or not name:
        raise ValueError("no name" if "name" not in call else f"name is {name!r:.80}, not a tool's name")
    if "arguments" not in call:
        raise ValueError("no arguments")
    if not isinstance(arguments, dict):
        raise ValueError(f"arguments are {_json_type(arguments)}, not an object")  # noqa: TRY004
    return common_pb2.ToolCall(name=name, arguments_json=_member_text(block, "arguments"))


def _member_text(text: str, wanted: str) -> str:
    """The text of one member's value in a JSON object that is known to be valid and to have it."""
    at = text.index("{") + 1
    while True:
        key, at = _DECODER.raw_decode(text, _skip(text, at))
        at = _skip(text, _skip(text, at) + 1)
        _, end = _DECODER.raw_decode(text, at)
        if key == wanted:
            return text[at:end]
        at = _skip(text, end) + 1


def _skip(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    assert match is not None
    return match.end()


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("an object has the same key twice")
    return members


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _finite(number: str) -> float:
    value = float(number)
    if not math.isfinite(value):
        raise ValueError(f"{number[:40]} is too large for a number")
    return value


def _integer(number: str) -> int:
    if len(number) > _MAX_DIGITS:
        raise ValueError(f"an integer of {len(number)} digits, over {_MAX_DIGITS}")
    return int(number)


def _json_type(value: object) -> str:
    if value is None:
        return "null"
    names = {bool: "a boolean", int: "a number", float: "a number", str: "a string", list: "an array"}
    return names.get(type(value), "an object")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_unique, parse_constant=_refuse_constant, parse_float=_finite, parse_int=_integer
)

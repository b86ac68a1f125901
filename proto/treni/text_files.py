"""Text files as people write them: UTF-8 with or without a byte order mark, lines that end with LF or CRLF.

Lines end at those two only. `str.splitlines` also ends them at U+2028, U+0085 and six others, which JSON and prose
may hold.
"""

from __future__ import annotations

import codecs
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from treni.errors import TreniError, invalid_argument
from treni.storage import reading

_BOM = codecs.BOM_UTF8


def read_text(path: Path, *, what: str) -> str:
    """The text of the file at `path`, without a byte order mark, its line ends as they are.

    Raises INVALID_ARGUMENT that expects `what` for a file that cannot be read, and that names file and line for bytes
    that are not UTF-8.
    """
    with reading(path, what):
        data = path.read_bytes()
    return decode(data, str(path))


def decode(data: bytes, name: str) -> str:
    """The text in `data`, without a byte order mark; see `read_text`."""
    data = data.removeprefix(_BOM)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        number = data.count(b"\n", 0, error.start) + 1
        raise invalid_argument(
            "text_not_utf8",
            expected=f"UTF-8 text in {name} line {number}",
            got=f"{_encoding(data)}: byte 0x{data[error.start]:02x}, {error.reason}",
            todo="save the file as UTF-8",
        ) from None


def _encoding(data: bytes) -> str:
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "UTF-16"
    return "other bytes"


def lines(text: str) -> list[str]:
    """The lines of `text` without their ends; what follows the last end is a line unless it is empty."""
    found = text.split("\n")
    if found[-1] == "":
        found.pop()
    return [line.removesuffix("\r") for line in found]


def json_lines(data: bytes, name: str) -> Iterator[tuple[int, Any]]:
    """Each line's number, from 1, and its JSON value; blank lines are left out.

    Raises INVALID_ARGUMENT (`json_invalid`) that names `name` and the line, as `parse_json` does.
    """
    for number, line in enumerate(lines(decode(data, name)), start=1):
        if line.strip(" \t\r"):
            yield number, parse_json(line, f"{name} line {number}")


def parse_json(text: str, where: str) -> Any:
    """The value of one JSON text, by the letter of RFC 8259.

    Raises INVALID_ARGUMENT (`json_invalid`) that names `where` for what is no JSON, and for what readers of JSON
    disagree about: a name twice in one object, NaN and infinities, numbers too large for a float64, half of a
    surrogate pair, nesting deeper than Python reads.
    """
    try:
        value = json.loads(
            text, parse_constant=_no_number, parse_float=_finite, object_pairs_hook=_without_twins
        )
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        got = "half of a surrogate pair"
    except RecursionError:
        got = "nesting too deep to be read"
    except ValueError as error:
        got = str(error)
    else:
        return value
    raise _invalid(where, got)


def _invalid(where: str, got: str) -> TreniError:
    return invalid_argument("json_invalid", expected=f"JSON in {where}", got=got, todo="correct it")


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text}, which is no number in JSON")


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"{text[:40]}, a number too large")
    return value


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        names = [name for name, _ in pairs]
        twin = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the name {twin!r} twice in one object")
    return value

"""Strict JSON in and out of frozen dataclasses: an unknown key, a missing key or a wrong type is a named error."""

from __future__ import annotations

import dataclasses
import json
from typing import Any, TypeVar

import pydantic

from treni.errors import Code, TreniError

T = TypeVar("T")

STRICT = pydantic.ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
"""What a dataclass sets as `__pydantic_config__` so that its parser coerces nothing and ignores nothing."""


def parse(adapter: pydantic.TypeAdapter[T], data: bytes, *, kind: str, where: str) -> T:
    """The value that the JSON text `data` stands for.

    Raises `TreniError` (DATA_LOSS, `kind`) that names `where` and the first wrong key.
    """
    try:
        return adapter.validate_json(data)
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        shown = data[:80].decode("utf-8", "replace")
        raise TreniError(
            Code.DATA_LOSS,
            kind,
            expected=f"{where}: {first['msg']}" + (f" at key {key!r}" if key else ""),
            got=shown,
            todo="restore the file; it was not written by this version, or was edited",
            definite=True,
        ) from error


def dump(value: Any) -> bytes:
    """One line of JSON for a dataclass, without the newline. Raises `ValueError` for NaN and infinities."""
    return json.dumps(
        dataclasses.asdict(value), ensure_ascii=False, allow_nan=False, separators=(",", ":")
    ).encode()

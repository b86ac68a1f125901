"""Settings from the JSON files of a checkpoint directory; what is wrong is named by file and key."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runtime_svc.errors import damaged, missing, pointer

_POINTER = b"version https://git-lfs.github.com/spec/"
_LARGEST_POINTER = 1024
"""Bytes of a Git LFS pointer at most, by its specification."""


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in the file; raises `TreniError` naming it when it is absent or not an object."""
    if path.is_dir():
        raise damaged(path, "the kind", expected="a file", got="a folder")
    if not path.is_file():
        raise missing(path.parent, path.name)
    refuse_pointer(path)
    try:
        value = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise damaged(path, "the text", expected="JSON", got=str(error)) from None
    if not isinstance(value, dict):
        raise damaged(path, "the text", expected="a JSON object", got=type(value).__name__)
    return value


def refuse_pointer(path: Path) -> None:
    """Raises `TreniError` when the file is Git LFS's pointer to a content that was never fetched."""
    with path.open("rb") as file:
        head = file.read(_LARGEST_POINTER + 1)
    if head.startswith(_POINTER) and len(head) <= _LARGEST_POINTER:
        raise pointer(path)


def flag(path: Path, raw: Mapping[str, Any], key: str) -> bool:
    """The setting as true or false; false stands for an absent or null one."""
    value = raw.get(key)
    if value is None:
        return False
    if not isinstance(value, bool):
        raise damaged(path, key, expected="true or false", got=repr(value))
    return value


def count(path: Path, raw: Mapping[str, Any], key: str, *, default: int | None = None) -> int:
    """The setting as a positive integer; `default` stands for an absent or null one."""
    value = raw.get(key)
    if value is None:
        value = default
    if type(value) is not int or value <= 0:
        raise damaged(path, key, expected="a positive integer", got=repr(value))
    return value


def positive(path: Path, raw: Mapping[str, Any], key: str, *, default: float) -> float:
    """The setting as a positive, finite number; `default` stands for an absent or null one."""
    value = raw.get(key)
    if value is None:
        value = default
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= sys.float_info.max:
        raise damaged(path, key, expected="a positive number", got=repr(value))
    return float(value)

"""Settings from the JSON files of a checkpoint directory; what is wrong is named by file and key."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runtime_svc.errors import damaged, missing


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in the file; raises `TreniError` naming it when it is absent or not an object."""
    if not path.is_file():
        raise missing(path.parent, path.name)
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise damaged(path, "the text", expected="JSON", got=str(error)) from None
    if not isinstance(value, dict):
        raise damaged(path, "the text", expected="a JSON object", got=type(value).__name__)
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

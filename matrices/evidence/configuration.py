"""What two campaigns were configured differently in, key by key of their manifests."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from matrices.evidence.manifest import Manifest

_OWN = frozenset({"created_utc"})
"""Keys that every campaign has to itself."""

ABSENT = "-"
"""How a key is written that one of the manifests does not have."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ConfigDifference:
    """One key that differs: of that cell, or of the whole campaign where `cell` is ""; values as JSON."""

    cell: str
    key: str
    first: str
    second: str


def configuration_differences(first: Manifest, second: Manifest) -> tuple[ConfigDifference, ...]:
    """Every key in which the manifests differ, those of the campaign first; tasks are told by how many there are."""
    found = list(_differing("", _of_campaign(first), _of_campaign(second)))
    cells = [{cell.name: cell for cell in of.cells} for of in (first, second)]
    for name in dict.fromkeys((*cells[0], *cells[1])):
        if name in cells[0] and name in cells[1]:
            mine, theirs = (_flat(dataclasses.asdict(of[name])) for of in cells)
            found += _differing(name, mine, theirs)
    return tuple(found)


def _of_campaign(manifest: Manifest) -> dict[str, str]:
    plain = {key: value for key, value in dataclasses.asdict(manifest).items() if key not in _OWN}
    tasks = plain["suite"].pop("tasks")
    return {
        **_flat({key: value for key, value in plain.items() if key != "cells"}),
        "cells": _written([cell["name"] for cell in plain["cells"]]),
        "suite.tasks": f"{len(tasks)} tasks, the first {_written(tasks[0]['id'])}" if tasks else "none",
    }


def _differing(cell: str, first: Mapping[str, str], second: Mapping[str, str]) -> Iterator[ConfigDifference]:
    for key in dict.fromkeys((*first, *second)):
        mine, theirs = first.get(key, ABSENT), second.get(key, ABSENT)
        if mine != theirs:
            yield ConfigDifference(cell=cell, key=key, first=mine, second=theirs)


def _flat(value: Any, prefix: str = "") -> dict[str, str]:
    """The leaves by their path; a list is a leaf."""
    if isinstance(value, Mapping) and value:
        return {
            path: text
            for key, one in value.items()
            for path, text in _flat(one, f"{prefix}.{key}" if prefix else str(key)).items()
        }
    return {prefix: _written(value)}


def _written(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)

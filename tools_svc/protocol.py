"""What a tool is: a spec the model sees, a `run` the registry calls, and the config it is built from."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Literal, Protocol

from treni.v1.common_pb2 import ToolSpec

LedgerSync = Literal["disk", "process"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ToolsConfig:
    """Where the tools keep their state and find their data.

    `ledger_path` is the SQLite file of the ledger, made when absent; its folder must exist. `ledger_sync` says
    what an answered entry survives: "disk" a crash of the machine, "process" a kill of any process. `data` is a folder
    with `cities.csv`, `accounts.txt` and `notes/*.txt`; by default the one that the package ships.
    """

    ledger_path: Path
    ledger_sync: LedgerSync = "disk"
    data: Traversable = field(default_factory=lambda: resources.files("tools_svc") / "data")


@dataclass(frozen=True, kw_only=True, slots=True)
class CallInfo:
    """Who calls: what a side effect writes beside itself. `idempotency_key` "" makes every call a new effect."""

    run_id: str
    task_id: str
    attempt: int
    idempotency_key: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ToolOutput:
    """What a tool answers: a JSON object, and whether it is a remembered answer to a known idempotency key."""

    result: Mapping[str, Any]
    replayed: bool = False


class Tool(Protocol):
    """One tool. `run` is called from several threads at once."""

    @property
    def spec(self) -> ToolSpec:
        """The tool as the model sees it."""

    def run(self, arguments: Mapping[str, Any], info: CallInfo) -> ToolOutput:
        """The answer to arguments that fit the spec's schema (an "integer" is an `int`, never a `bool`).

        Raises `TreniError`, INVALID_ARGUMENT for arguments that the tool refuses; then nothing was changed.
        """

    def close(self) -> None:
        """Frees what the tool holds. Nothing, unless a tool says otherwise."""
        return


@dataclass(frozen=True, kw_only=True, slots=True)
class ToolEntry:
    """What each tool's file ends in: the spec, known before anything is built, and how to build the tool."""

    spec: ToolSpec
    build: Callable[[ToolsConfig], Tool]


def make_spec(
    *,
    name: str,
    description: str,
    properties: Mapping[str, Mapping[str, Any]],
    required: tuple[str, ...],
    has_side_effects: bool = False,
) -> ToolSpec:
    """A `ToolSpec` whose parameters are the JSON schema of an object with these properties."""
    schema = {"type": "object", "properties": properties, "required": required}
    return ToolSpec(
        name=name,
        description=description,
        parameters_json=to_json(schema),
        has_side_effects=has_side_effects,
    )


def to_json(value: Any) -> str:
    """JSON as the model reads it: `", "` and `": "` between parts, letters unescaped, decimals in full.

    `json.dumps` with the one difference that a finite `Decimal` is written digit by digit (0.000001, not 1e-06).
    Raises `ValueError` for NaN and infinities, `TypeError` for what JSON has no form for.
    """
    if isinstance(value, Decimal):
        if not value.is_finite():
            raise ValueError(f"not a JSON number: {value}")
        return format(value, "f")
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{to_json(str(key))}: {to_json(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(to_json(item) for item in value) + "]"
    return json.dumps(value, ensure_ascii=False, allow_nan=False)

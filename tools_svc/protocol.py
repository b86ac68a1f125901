"""What a tool is: a spec the model sees, a `run` the registry calls, and the config it is built from."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Literal, Protocol

from tools_svc.arguments import ArgumentsCheck
from treni.v1.common_pb2 import ToolSpec

LedgerSync = Literal["disk", "process"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ToolsConfig:
    """Where the tools keep their state and find their data.

    `ledger_path` is the SQLite file of the ledger, made when absent; its folder must exist. `ledger_sync` says
    what an answered entry survives: "disk" a crash of the machine, "process" a kill of any process. `session` takes
    the ledger over from every other session, so that a process that was superseded writes nothing more into it; ""
    leaves it to whoever has it. `data` is a folder with `cities.csv`, `accounts.txt` and `notes/*.txt`; by default the
    one that the package ships. `sources` are those that tools come from, as `tools_svc.sources` reads them.
    """

    ledger_path: Path
    ledger_sync: LedgerSync = "disk"
    session: str = ""
    sources: tuple[str, ...] = ("builtin",)
    data: Traversable = field(default_factory=lambda: resources.files("tools_svc") / "data")

    @property
    def memory_path(self) -> Path:
        """The SQLite file of what calls came to whose tools keep no ledger of their own, beside the ledger."""
        return self.ledger_path.with_name(f"{self.ledger_path.stem}-calls.sqlite")


WORK_SHARE = 0.8
"""The share of the time its caller still waits that a tool uses: then it says that it was not enough, and is heard."""


class Caller:
    """Whoever waits for one call's answer: for how long yet, and whether he still does. Thread-safe."""

    def __init__(self, deadline_s: float | None = None) -> None:
        self._expires_s = math.inf if deadline_s is None else time.monotonic() + deadline_s
        self._left = False

    def remaining_s(self) -> float:
        """Seconds until he has stopped waiting, 0 when he has, infinity for one who set no deadline."""
        return 0.0 if self._left else max(0.0, self._expires_s - time.monotonic())

    def work_s(self) -> float:
        """How many seconds work may take from now, so that its refusal to go on still reaches him."""
        return WORK_SHARE * self.remaining_s()

    @property
    def gone(self) -> bool:
        """Whether nobody waits any longer; work that takes long asks now and then, and stops."""
        return self._left or time.monotonic() >= self._expires_s

    def leave(self) -> None:
        """Notes that he waits no longer."""
        self._left = True


@dataclass(frozen=True, kw_only=True, slots=True)
class CallInfo:
    """Who calls: what a side effect writes beside itself, and who waits for the answer.

    `idempotency_key` "" makes every call a new effect.
    """

    run_id: str
    task_id: str
    attempt: int
    idempotency_key: str
    caller: Caller = field(default_factory=Caller)


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

        Raises `TreniError`, INVALID_ARGUMENT for arguments that the tool refuses; then nothing was changed. What may
        take longer than a moment ends within `info.caller.work_s()`, and stops once `info.caller.gone`.
        """

    def arguments_check(self) -> Callable[[str], dict[str, Any]]:
        """What makes of the model's text the arguments that `run` is given, or raises INVALID_ARGUMENT.

        By the spec's schema, unless a tool says otherwise.
        """
        return ArgumentsCheck(self.spec)

    def close(self) -> None:
        """Frees what the tool holds. Nothing, unless a tool says otherwise."""
        return


@dataclass(frozen=True, kw_only=True, slots=True)
class ToolEntry:
    """What each tool's file ends in: the spec, known before anything is built, and how to build the tool."""

    spec: ToolSpec
    build: Callable[[ToolsConfig], Tool]


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenSource:
    """A source's tools, ready to be called. `label` is what the source is called where two have a tool of one name.

    `tools` builds them: it is given a name for each that clashes, as a map from the names in `specs`. `close` frees
    what they share, once they are closed.
    """

    label: str
    specs: tuple[ToolSpec, ...]
    tools: Callable[[Mapping[str, str]], list[Tool]]
    close: Callable[[], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceEntry:
    """A kind of source that tools come from, as "name" or "name:argument" asks for it.

    `check` says whether the argument (None for none) can be one, or raises INVALID_ARGUMENT, and touches nothing;
    `open` opens the source, or raises `TreniError`; `settled` is the argument as it means the same from any folder.
    """

    name: str
    check: Callable[[str | None], None]
    open: Callable[[str | None, ToolsConfig], OpenSource]
    settled: Callable[[str | None], str | None] = lambda argument: argument


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

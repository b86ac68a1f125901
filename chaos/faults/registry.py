"""The kinds of faults by name: a file and an entry here for each of ours, and those that installed packages add."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pydantic

from chaos.faults.bandwidth import Bandwidth
from chaos.faults.crash import Crash
from chaos.faults.hang import Hang
from chaos.faults.hog import Hog
from chaos.faults.kind import FaultKind
from chaos.faults.latency import Latency
from chaos.faults.leak import Leak
from chaos.faults.reset import Reset
from chaos.faults.slicer import Slicer
from chaos.faults.stall import Stall
from chaos.faults.status import Status
from treni.errors import TreniError, invalid_argument
from treni.plugins import Registry

GROUP = "treni_route.faults"
"""The entry points of packages that add a kind, named as the kind and loading its class."""

_OURS: tuple[type[FaultKind], ...] = (
    Status,
    Stall,
    Reset,
    Latency,
    Bandwidth,
    Slicer,
    Crash,
    Hang,
    Hog,
    Leak,
)


RESERVED = frozenset({"id", "site", "hop", "kind", "every", "rate", "burst", "from_request", "to_request"})
"""Keys that every rule or every fault has, so that no kind can have one of that name."""


def _is_kind(name: str, found: object) -> bool:
    return (
        isinstance(found, type)
        and issubclass(found, FaultKind)
        and not found.__abstractmethods__
        and all(hasattr(found, attribute) for attribute in ("name", "letter", "sites"))
        and found.name == name
        and not RESERVED & {*found.model_fields, *found.keys()}
        and found.letter not in {kind.letter for kind in _OURS}
    )


FAULTS: Registry[type[FaultKind]] = Registry(
    {kind.name: kind for kind in _OURS},
    group=GROUP,
    what="a whole subclass of chaos.faults.FaultKind, its letter and keys its own,",
    accepts=_is_kind,
)
"""Every kind by name."""


def kind_to_dict(kind: FaultKind) -> dict[str, Any]:
    """The kind as JSON data: "kind" and its own fields."""
    return {"kind": kind.name, **kind.model_dump()}


def kind_from_dict(data: Mapping[str, object]) -> FaultKind:
    """The inverse of `kind_to_dict`. Raises INVALID_ARGUMENT on an unknown kind, key or value."""
    name = data.get("kind")
    if not isinstance(name, str) or name not in FAULTS:
        raise invalid(f'"kind" to be one of {", ".join(FAULTS)}', repr(name))
    try:
        return FAULTS[name](**{key: value for key, value in data.items() if key != "kind"})
    except pydantic.ValidationError as error:
        problems = (
            f'"{".".join(map(str, item["loc"]))}": {item["msg"]}, got {item["input"]!r}'
            for item in error.errors(include_url=False)
        )
        raise invalid(f"the fields of {name}", "; ".join(problems)) from None


def invalid(expected: str, got: str) -> TreniError:
    """The error of a fault that cannot be."""
    return invalid_argument("fault_invalid", expected=expected, got=got, todo="correct the fault")

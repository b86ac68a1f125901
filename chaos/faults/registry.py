"""The kinds of faults by name: a file and an entry here for each of ours, and those that installed packages add."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from importlib.metadata import EntryPoint
from typing import Any, get_args

import pydantic

from chaos.faults.bandwidth import Bandwidth
from chaos.faults.crash import Crash
from chaos.faults.hang import Hang
from chaos.faults.hog import Hog
from chaos.faults.kind import FaultKind, Site
from chaos.faults.latency import Latency
from chaos.faults.leak import Leak
from chaos.faults.link_delay import LinkDelay
from chaos.faults.node_killed import NodeKilled
from chaos.faults.packet_loss import PacketLoss
from chaos.faults.partition import Partition
from chaos.faults.reset import Reset
from chaos.faults.service_killed import ServiceKilled
from chaos.faults.service_paused import ServicePaused
from chaos.faults.slicer import Slicer
from chaos.faults.stall import Stall
from chaos.faults.status import Status
from treni.errors import TreniError, invalid_argument
from treni.plugins import Plugins

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
    Partition,
    PacketLoss,
    LinkDelay,
    ServiceKilled,
    ServicePaused,
    NodeKilled,
)


RESERVED = frozenset({"id", "site", "hop", "kind", "every", "rate", "burst", "from_request", "to_request"})
"""Keys that every rule or every fault has, so that no kind can have one of that name."""


_NAME = re.compile(r"[a-z][a-z0-9_]*")
_LETTER = re.compile(r"[A-Za-z0-9]+")


class FaultKinds(Plugins[type[FaultKind]]):
    """The kinds by name, each looked up once in a process: faults are read while requests wait."""

    def __init__(self) -> None:
        super().__init__(GROUP, type(FaultKind), lambda kind: getattr(kind, "name", ""), _OURS)
        self._known: dict[str, type[FaultKind]] = {}

    def __getitem__(self, name: str) -> type[FaultKind]:
        if name not in self._known:
            if name not in self._names:
                raise KeyError(name)
            self._known[name] = super().__getitem__(name)
        return self._known[name]

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    @cached_property
    def _names(self) -> dict[str, None]:
        return dict.fromkeys(super().__iter__())

    def _loaded(self, point: EntryPoint) -> type[FaultKind]:
        kind = super()._loaded(point)
        if not issubclass(kind, FaultKind):
            raise self._unusable(point, "no subclass of chaos.faults.FaultKind")
        if wrong := _wrong_with(kind):
            raise self._unusable(point, f"a kind {wrong}")
        return kind


def _wrong_with(kind: type[FaultKind]) -> str:
    """What is wrong with the kind of a package, "" for nothing: said now, it is not found out in the midst of a run."""
    missing = [one for one in ("letter", "sites") if not hasattr(kind, one)] + sorted(
        kind.__abstractmethods__
    )
    if missing:
        return f"that does not say {', '.join(missing)}"
    if not kind.sites or not kind.sites <= set(get_args(Site)):
        return f"with the sites {sorted(kind.sites)}"
    for site, method in (("hop", "on_hop"), ("tool", "at_tool"), ("host", "at_host")):
        if site in kind.sites and getattr(kind, method) is getattr(FaultKind, method):
            return f"with the site {site} that does not say {method}"
    if not _NAME.fullmatch(kind.name) or not _LETTER.fullmatch(kind.letter):
        return f"with the name {kind.name!r} and the letter {kind.letter!r}, which go into ids and names of strata"
    if kind.letter in {one.letter for one in _OURS}:
        return f"with the letter {kind.letter}, which another has"
    if reserved := sorted(RESERVED & {*kind.model_fields, *kind.keys()}):
        return f"with the keys {', '.join(reserved)}, which are every rule's"
    return ""


FAULTS = FaultKinds()
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

"""The maps of what can be chosen by name: the project's own entries, and those that installed packages add.

A package adds one by an entry point (https://packaging.python.org/specifications/entry-points/) of the map's group, so
that nothing of the project has to change for it.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.metadata import EntryPoint, EntryPoints, entry_points
from pathlib import Path
from typing import Generic, TypeVar

from treni.errors import Code, TreniError

T = TypeVar("T")


class Plugins(Mapping[str, T], Generic[T]):
    """The entries by name: the project's own, then what installed packages add, whenever they were installed.

    `name_of` tells an entry's name; `kind` is the type that a package's entry must have. A package whose entry can't
    be loaded, is of another type, goes by another name than its entry point, or takes a name that is taken raises
    FAILED_PRECONDITION, which names the package, as soon as that name or the whole list is asked for.
    """

    def __init__(self, group: str, kind: type[T], name_of: Callable[[T], str], ours: Iterable[T]) -> None:
        self.group = group
        self._kind = kind
        self._name_of = name_of
        self._ours = {name_of(entry): entry for entry in ours}

    def __getitem__(self, name: str) -> T:
        points = _points(self.group).select(name=name)
        if name in self._ours:
            for point in points:
                raise self._unusable(point, f"the name {name!r}, which the project itself has")
            return self._ours[name]
        found = {point.value: point for point in points}
        if not found:
            raise KeyError(name)
        first, *others = found.values()
        for other in others:
            raise self._unusable(other, f"the name {name!r}, which {_package(first)} has too")
        return self._loaded(first)

    def __iter__(self) -> Iterator[str]:
        return iter(self._ours | dict.fromkeys(point.name for point in _points(self.group)))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def _loaded(self, point: EntryPoint) -> T:
        try:
            entry = point.load()
        except Exception as error:  # whatever the import of somebody else's package raises
            raise self._unusable(point, f"{type(error).__name__}: {error}") from error
        if not isinstance(entry, self._kind):
            raise self._unusable(point, f"a {type(entry).__name__}")
        if self._name_of(entry) != point.name:
            raise self._unusable(point, f"one that is named {self._name_of(entry)!r}")
        return entry

    def _unusable(self, point: EntryPoint, got: str) -> TreniError:
        kind = f"{self._kind.__module__}.{self._kind.__qualname__}"
        return TreniError(
            Code.FAILED_PRECONDITION,
            "plugin_unusable",
            expected=f"the entry point {point.name} = {point.value} ({self.group}) of {_package(point)} to be a {kind} "
            "of that name",
            got=got[:300],
            todo="mend or uninstall that package",
        )


def _points(group: str) -> EntryPoints:
    """The entry points of a group, read anew where a folder of packages has changed since: to read them all is slow."""
    return _read(group, tuple((path, _changed_ns(path)) for path in sys.path))


@functools.lru_cache(maxsize=64)
def _read(group: str, folders: tuple[tuple[str, int], ...]) -> EntryPoints:
    # The library sorts out every package there is, 20 ms of each process's start; most machines have none of ours.
    if not any(_may_have(path, group) for path, _ in folders):
        return EntryPoints(())
    return entry_points(group=group)


def _may_have(path: str, group: str) -> bool:
    """Whether a package in that folder names the group, or could, as in an archive, which is not looked into."""
    try:
        entries = list(os.scandir(path or "."))
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return any(
        entry.name.endswith((".dist-info", ".egg-info")) and _names(Path(entry.path), group)
        for entry in entries
    )


def _names(metadata: Path, group: str) -> bool:
    try:
        return group.encode() in (metadata / "entry_points.txt").read_bytes()
    except OSError:
        return False


def _changed_ns(path: str) -> int:
    try:
        return os.stat(path or ".").st_mtime_ns
    except OSError:
        return 0


def _package(point: EntryPoint) -> str:
    return "a package" if point.dist is None else point.dist.name

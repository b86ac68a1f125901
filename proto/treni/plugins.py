"""Maps of what there is by name: ours, and what installed packages add through entry points."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import Generic, TypeVar

from treni.errors import Code, TreniError

T = TypeVar("T")


class Registry(Mapping[str, T], Generic[T]):
    """Our own entries by name, and after them those of installed packages.

    A package adds one by an entry point in `group` that has its name and loads what `accepts` takes; `what` says in
    words what that is. Entry points are read when the map is first looked at. Raises FAILED_PRECONDITION
    (`plugin_unusable`) where one is asked for that does not load, is no such thing, or has the name of another.
    """

    def __init__(
        self, ours: Mapping[str, T], *, group: str, what: str, accepts: Callable[[str, object], bool]
    ) -> None:
        self._ours = dict(ours)
        self._group = group
        self._what = what
        self._accepts = accepts

    def __getitem__(self, name: str) -> T:
        if name in self.broken:
            raise self.broken[name]
        return self._usable[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._usable)

    def __len__(self) -> int:
        return len(self._usable)

    def __contains__(self, name: object) -> bool:
        return name in self._usable

    @cached_property
    def broken(self) -> dict[str, TreniError]:
        """What is wrong with each entry point that cannot be used, by name."""
        return self._read[1]

    @cached_property
    def _usable(self) -> dict[str, T]:
        return {**self._ours, **self._read[0]}

    @cached_property
    def _read(self) -> tuple[dict[str, T], dict[str, TreniError]]:
        usable: dict[str, T] = {}
        broken: dict[str, TreniError] = {}
        for point in entry_points(group=self._group):
            where = f"the entry point {point.name} of {_package(point)} ({point.value})"
            if point.name in self._ours or point.name in usable:
                broken[point.name] = self._unusable(where, "a name that another has already")
                continue
            try:
                found = point.load()
            except Exception as error:  # whatever the package's import raises
                broken[point.name] = self._unusable(where, f"{type(error).__name__}: {error}")
                continue
            if self._accepts(point.name, found):
                usable[point.name] = found
            else:
                broken[point.name] = self._unusable(where, repr(found)[:200])
        return usable, broken

    def _unusable(self, where: str, got: str) -> TreniError:
        return TreniError(
            Code.FAILED_PRECONDITION,
            "plugin_unusable",
            expected=f"{where} to load {self._what} with that name",
            got=got,
            todo="mend or uninstall that package",
        )


def _package(point: EntryPoint) -> str:
    return "a package" if point.dist is None else point.dist.name

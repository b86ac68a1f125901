"""The architectures that are known: a file each, and those that installed packages add."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.metadata import EntryPoint, entry_points

from runtime_svc.models.architecture import Architecture
from runtime_svc.models.llama import LLAMA
from runtime_svc.models.qwen2 import QWEN2
from runtime_svc.models.qwen3 import QWEN3
from treni.errors import Code, TreniError

GROUP = "treni_route.models"
"""The entry points of packages that add an architecture, named as in `config.json` and loading an `Architecture`."""


class _Architectures(Mapping[str, Architecture]):
    """Ours first; the entry points of installed packages are read when a name is not among them."""

    def __init__(self, *ours: Architecture) -> None:
        self._ours = {architecture.name: architecture for architecture in ours}

    def __getitem__(self, name: str) -> Architecture:
        if name in self._ours:
            return self._ours[name]
        for point in entry_points(group=GROUP, name=name):
            return _loaded(point)
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        added = dict.fromkeys(point.name for point in entry_points(group=GROUP))
        return iter(self._ours | added)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def of_type(self, model_type: object) -> Architecture | None:
        """The one whose configs have that `model_type`, if there is one."""
        return next((found for found in self.values() if found.model_type == model_type), None)


ARCHITECTURES = _Architectures(LLAMA, QWEN2, QWEN3)
"""By the first of `architectures` in `config.json`."""


def _loaded(point: EntryPoint) -> Architecture:
    where = (
        f"the entry point {point.name} of {point.dist.name if point.dist else 'a package'} ({point.value})"
    )
    try:
        found = point.load()
    except Exception as error:  # whatever the package's import raises
        raise _unusable(where, f"{type(error).__name__}: {error}") from error
    if not isinstance(found, Architecture) or found.name != point.name:
        raise _unusable(where, repr(found)[:200])
    return found


def _unusable(where: str, got: str) -> TreniError:
    return TreniError(
        Code.FAILED_PRECONDITION,
        "plugin_unusable",
        expected=f"{where} to load a runtime_svc.models.architecture.Architecture of that name",
        got=got,
        todo="mend or uninstall that package",
    )

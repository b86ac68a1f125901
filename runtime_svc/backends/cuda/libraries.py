"""Finds and loads CUDA's own libraries: from NVIDIA's wheels, else from where the system's loader looks."""

from __future__ import annotations

import ctypes
import importlib.util
from collections.abc import Iterator
from pathlib import Path

from treni.errors import Code, TreniError


def load(soname: str, *, needs: tuple[str, ...] = ()) -> ctypes.CDLL:
    """The library, such as "libnvrtc.so.13"; `needs` are those that it opens by name itself, loaded before it.

    Raises FAILED_PRECONDITION "backend_unavailable" when it is nowhere.
    """
    for folder in _folders():
        if (folder / soname).is_file():
            for other in needs:
                ctypes.CDLL(str(folder / other), ctypes.RTLD_GLOBAL)
            return ctypes.CDLL(str(folder / soname))
    try:
        return ctypes.CDLL(soname)
    except OSError as error:
        raise unavailable(f"the library {soname}", str(error), "install NVIDIA's CUDA 13 wheels") from None


def unavailable(expected: str, got: str, todo: str) -> TreniError:
    """The GPU backend cannot run here."""
    return TreniError(Code.FAILED_PRECONDITION, "backend_unavailable", expected=expected, got=got, todo=todo)


def _folders() -> Iterator[Path]:
    spec = importlib.util.find_spec("nvidia")
    for place in (spec.submodule_search_locations or ()) if spec is not None else ():
        yield Path(place) / "cu13" / "lib"
    yield Path("/usr/local/cuda/lib64")

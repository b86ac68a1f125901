"""The C++ compiler of the CPU build: the machine's own, else one from PyPI's `ziglang`, fetched once into our cache."""

from __future__ import annotations

import fcntl
import os
import shlex
import shutil
import tempfile
from functools import cache
from pathlib import Path

from treni.errors import Code, TreniError
from treni.packages import cache_folder, failure_of, fetch_command

ZIG = "ziglang==0.17.1"
NAMES = ("g++", "clang++", "c++")
FETCH_TIMEOUT_S = 600.0


@cache
def compiler() -> tuple[str, ...]:
    """The words that a command begins with: what CXX says, a compiler on PATH, or Zig's.

    The first time without one downloads 100 MB. Raises FAILED_PRECONDITION "compiler_missing" when that fails.
    """
    if named := shlex.split(os.environ.get("CXX", "")):
        return tuple(named)
    for name in NAMES:
        if (found := shutil.which(name)) is not None:
            return (found,)
    return str(_zig()), "c++"


def _zig() -> Path:
    folder = cache_folder() / ZIG.replace("==", "-")
    program = folder / "ziglang" / "zig"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another process may be fetching it
        if not program.is_file():
            with tempfile.TemporaryDirectory(prefix="fetch-", dir=folder.parent) as scratch:
                fetched = Path(scratch) / "packages"
                _fetch(fetched)
                shutil.rmtree(folder, ignore_errors=True)
                fetched.replace(folder)
    return program


def _fetch(folder: Path) -> None:
    command = fetch_command(ZIG, folder)
    problem = failure_of(command, cwd=folder.parent, timeout_s=FETCH_TIMEOUT_S)
    if problem is not None:
        raise TreniError(
            Code.FAILED_PRECONDITION,
            "compiler_missing",
            expected=f"a C++ compiler ({', '.join(NAMES)}) on PATH or in CXX, or to fetch {ZIG}",
            got=f"none, and `{shlex.join(command)}` failed with {problem}",
            todo="install g++, or go online",
        )

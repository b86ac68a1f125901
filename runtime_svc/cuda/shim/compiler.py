"""The C++ compiler of the CPU build: the machine's own, else one from PyPI's `ziglang`, fetched once into our cache."""

from __future__ import annotations

import fcntl
import os
import shlex
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from treni.errors import Code, TreniError
from treni.packages import fetch_command

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
    base = os.environ.get("XDG_CACHE_HOME", "")
    folder = (Path(base) if base else Path.home() / ".cache") / "treni-route" / ZIG.replace("==", "-")
    program = folder / "ziglang" / "zig"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another process may be fetching it
        if not program.is_file():
            with tempfile.TemporaryDirectory(prefix="fetch-", dir=folder.parent) as scratch:
                _fetch(Path(scratch) / "packages")
                shutil.rmtree(folder, ignore_errors=True)
                (Path(scratch) / "packages").replace(folder)
    return program


def _fetch(folder: Path) -> None:
    command = fetch_command(ZIG, folder)
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=FETCH_TIMEOUT_S
        )
        problem = None if done.returncode == 0 else f"status {done.returncode}: {done.stderr.strip()[-1500:]}"
    except (OSError, subprocess.TimeoutExpired) as error:
        problem = str(error)
    if problem is not None:
        raise TreniError(
            Code.FAILED_PRECONDITION,
            "compiler_missing",
            expected=f"a C++ compiler ({', '.join(NAMES)}) on PATH or in CXX, or to fetch {ZIG}",
            got=f"none, and `{shlex.join(command)}` failed with {problem}",
            todo="install g++, or go online",
        )

"""What a campaign is run with: versions, commit and machine."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import os
import platform
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import psutil

_CODE = ("treni", "runtime_svc", "controller", "tools_svc", "chaos", "matrices")
_PACKAGES = ("treni-route", "grpcio", "protobuf", "numpy", "toxiproxy-python", "tokenizers")


@cache
def versions() -> dict[str, str]:
    """The versions of what decides a run's bits, by package; "python" is the interpreter's."""
    return {
        **{name: importlib.metadata.version(name) for name in _PACKAGES},
        "python": platform.python_version(),
    }


@cache
def commit() -> str:
    """The commit that the code was run from, "" outside a checkout; "+dirty" when the tree had changes."""
    return commit_at(Path(__file__).resolve().parent)


def commit_at(folder: Path) -> str:
    """The commit of the checkout that the folder lies in, as `commit` says it. Writes nothing there."""
    try:
        found = _git(folder, "rev-parse", "HEAD")
        return found + ("+dirty" if _git(folder, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


@cache
def code() -> str:
    """A digest of the installed code, the same wherever the same files are installed."""
    digest = hashlib.sha256()
    for name in _CODE:
        spec = importlib.util.find_spec(name)
        for root in [] if spec is None else spec.submodule_search_locations or []:
            for path in sorted(Path(root).rglob("*.py")):
                digest.update(f"{name}/{path.relative_to(root).as_posix()}\0".encode())
                digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def host() -> dict[str, Any]:
    """The machine: system, processors, memory and interpreter."""
    return {
        "system": platform.platform(),
        "machine": platform.machine(),
        "processors": os.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "python": sys.version.split()[0],
    }


def _git(folder: Path, *arguments: str) -> str:
    # Without the option `status` writes the index anew, and where the disk is full it leaves a lock there for good.
    command = ["git", "--no-optional-locks", "-C", str(folder), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.strip()

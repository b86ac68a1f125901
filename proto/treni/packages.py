"""What a machine lacks and we bring: where it is kept, and how it is fetched or built."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from treni.errors import Code, TreniError


def cache_folder() -> Path:
    """Ours in the user's cache, which need not exist: under XDG_CACHE_HOME, or `~/.cache` without one.

    Raises FAILED_PRECONDITION (`home_unknown`) for a user that has neither.
    """
    base = os.environ.get("XDG_CACHE_HOME", "")
    try:
        return (Path(base) if base else Path.home() / ".cache") / "treni-route"
    except RuntimeError:
        raise TreniError(
            Code.FAILED_PRECONDITION,
            "home_unknown",
            expected="a home folder, to keep there what is built once",
            got="no HOME, and no entry for this user",
            todo="set HOME or XDG_CACHE_HOME to a folder that can be written",
        ) from None


def fetch_command(requirement: str, folder: Path) -> list[str]:
    """The pip command that unpacks one binary package, without what it depends on, into `folder`."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    return [*pip, "--only-binary", ":all:", "--target", str(folder), requirement]


def failure_of(
    command: Sequence[str], *, cwd: Path, timeout_s: float, environment: Mapping[str, str] | None = None
) -> str | None:
    """Runs a command without input, with `environment` added to ours; None, or in words why it failed."""
    try:
        done = subprocess.run(
            command,
            cwd=cwd,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return None if done.returncode == 0 else f"status {done.returncode}: {done.stderr.strip()[-1500:]}"

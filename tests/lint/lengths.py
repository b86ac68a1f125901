"""Whether a module is too long: `python -m tests.lint.lengths`, a part of `make check`."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

MOST_LINES = 400
"""What a module has at most, kernels and data aside."""

DATA = frozenset({"tests/planted/bugs.py"})
"""Modules that are lists of values and nothing else."""


def too_long(paths: Iterable[Path]) -> list[str]:
    """Each module that is too long, in words."""
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in paths}
    return [
        f"{path}: expected at most {MOST_LINES} lines, got {length}; give a part of it a module of its own"
        for path, length in lengths.items()
        if length > MOST_LINES
    ]


def modules() -> list[Path]:
    """The project's Python files that git knows, generated ones and data aside."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "*.py"], capture_output=True, text=True, check=True
    )
    paths = [Path(line) for line in listed.stdout.splitlines() if line not in DATA]
    return [path for path in paths if path.exists() and "_pb2" not in path.name]


def main() -> int:
    """Exit status 1 where a module is too long, each of which is printed."""
    found = too_long(modules())
    for fault in found:
        print(fault)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

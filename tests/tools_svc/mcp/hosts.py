"""Registries over the hostile server, and what it and its like leave behind."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tools_svc.protocol import Caller, ToolsConfig
from tools_svc.registry import Registry, build_registry
from treni.v1.tools_pb2 import CallToolRequest, CallToolResponse

SERVER = Path(__file__).with_name("hostile.py")


def source(folder: Path, mode: str = "") -> str:
    """The source of the hostile server in that mode."""
    return f"mcp:{shlex.join([sys.executable, '-S', str(SERVER), str(folder), *filter(None, [mode])])}"


@contextmanager
def hosting(folder: Path, *sources: str) -> Iterator[Registry]:
    """A host of these sources, by default the hostile server's, whose state is in the folder."""
    config = ToolsConfig(ledger_path=folder / "ledger.sqlite", sources=sources or (source(folder),))
    with build_registry(config) as registry:
        yield registry


def call(
    registry: Registry, name: str, text: str = "hi", *, key: str = "", wait_s: float | None = None
) -> CallToolResponse:
    """The tool's answer to `text`; `wait_s` is how long the caller waits."""
    request = CallToolRequest(name=name, arguments_json=f'{{"text": "{text}"}}', idempotency_key=key)
    return registry.call(request, Caller(wait_s))


def effects(folder: Path) -> list[str]:
    """What the server did."""
    path = folder / "effects"
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def pids(folder: Path) -> list[int]:
    """Every process that the server was so far."""
    return [int(line) for line in (folder / "pids").read_text(encoding="utf-8").split()]

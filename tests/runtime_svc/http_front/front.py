"""The runtime with its HTTP front as a process of its own, as `treni-route serve runtime --http` starts it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.limits import HANG_S
from tests.places import ROOT
from tools_svc.registry import tool_specs

TINY = ROOT / "runtime_svc" / "checkpoints" / "treni-tiny"
MODEL = "treni-tiny"

OFFERED = ("notes_search", "ledger_append", "calculator", "facts_sql")
TOOLS: list[Any] = [
    {
        "type": "function",
        "function": {
            "name": spec.name,
            "description": spec.description,
            "parameters": json.loads(spec.parameters_json),
        },
    }
    for spec in tool_specs()
    if spec.name in OFFERED
]
"""The bundled tools, as OpenAI's clients offer them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Front:
    """Where it answers, over HTTP ("http://host:port") and gRPC ("host:port"), and its process."""

    http: str
    grpc: str
    pid: int


@contextmanager
def served(*options: str, model: Path = TINY, log: Path | None = None) -> Iterator[Front]:
    """A front on free ports until the block ends; its process has to end well then. Its log may go to a file."""
    program = Path(sys.executable).parent / "treni-route"
    command: list[str | Path] = [program, "serve", "runtime", "--model", str(model), "--http", "0", *options]
    with ExitStack() as files:
        stderr = None if log is None else files.enter_context(log.open("wb"))
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr)
    try:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        yield Front(http=ready["http"], grpc=ready["address"], pid=process.pid)
        process.terminate()
        assert process.wait(HANG_S) == 0
    finally:
        process.kill()
        process.wait()


def asking(text: str, **more: Any) -> dict[str, Any]:
    """The body of a request that says one thing to the model."""
    return {"model": MODEL, "messages": [{"role": "user", "content": text}], **more}

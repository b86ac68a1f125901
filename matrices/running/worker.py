"""`python -m matrices.running.worker`: a client process that sends what the harness hands it, and times it.

Lines of JSON on stdin ask, lines on stdout tell. It ends with its parent, or when stdin is closed.
"""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import os
import sys
from typing import Any, Literal

import pydantic

from matrices.running.client import AgentClient, Invocation, Reply
from matrices.topologies.processes import die_with_parent
from treni.channels import show
from treni.errors import Code, TreniError
from treni.passes import Keyring
from treni.trace_options import traced_as_told
from treni.v1 import agent_pb2

LINE_BYTES = 64 * 2**20
"""How long a line may be: several times what the longest answer and record take."""


class Asked(pydantic.BaseModel):
    """One request for the agent at an address; without a `request`, the one of that number is called off."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    number: int
    address: str = ""
    fence: str = ""
    request: str | None = None
    timeout_s: float = 0.0
    marks: dict[str, str] = {}


class Failure(pydantic.BaseModel):
    """What a `TreniError` says."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    code: str
    kind: str
    expected: str
    got: str
    todo: str
    definite: bool
    hop: str
    fault_id: str
    foreign: bool


class Told(pydantic.BaseModel):
    """What a request came to, by the worker's own clock."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    number: int
    outcome: Literal["ok", "fail", "unknown"]
    latency_s: float
    ttft_s: float | None
    replies: tuple[Reply, ...]
    error: Failure | None
    record: dict[str, Any] | None

    @classmethod
    def of(cls, number: int, done: Invocation) -> Told:
        """The line for an invocation."""
        error = None
        if done.error is not None:
            said = {field: _utf8(getattr(done.error, field)) for field in ("kind", "expected", "got", "todo")}
            error = Failure(
                **said,
                code=done.error.code.name,
                definite=done.error.definite,
                hop=done.error.hop,
                fault_id=done.error.fault_id,
                foreign=done.error.foreign,
            )
        values = {field.name: getattr(done, field.name) for field in dataclasses.fields(done)}
        return cls(number=number, **{**values, "error": error})

    def invocation(self) -> Invocation:
        """The invocation that the line tells of."""
        error = None
        if self.error is not None:
            words = self.error.model_dump(exclude={"code", "kind"})
            error = TreniError(getattr(Code, self.error.code), self.error.kind, **words)
        return Invocation(
            outcome=self.outcome,
            latency_s=self.latency_s,
            ttft_s=self.ttft_s,
            replies=self.replies,
            error=error,
            record=self.record,
        )


def _utf8(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


async def _work() -> None:
    reader = asyncio.StreamReader(limit=LINE_BYTES)
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin.buffer
    )
    clients: dict[tuple[str, str], AgentClient] = {}
    tasks: dict[int, asyncio.Task[None]] = {}

    async def run(asked: Asked) -> None:
        assert asked.request is not None
        where = (asked.address, asked.fence)
        if where not in clients:
            clients[where] = AgentClient(asked.address, fence=asked.fence)
        request = agent_pb2.RunRequest.FromString(base64.b64decode(asked.request))
        done = await clients[where].run(request, timeout_s=asked.timeout_s, marks=asked.marks)
        _say(Told.of(asked.number, done).model_dump_json())
        del tasks[asked.number]

    _say("ready")
    while line := await reader.readline():
        asked = Asked.model_validate_json(line)
        if asked.request is not None:
            tasks[asked.number] = asyncio.create_task(run(asked))
        elif asked.number in tasks:
            tasks[asked.number].cancel()


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    die_with_parent(int(sys.argv[1]) if len(sys.argv) > 1 else os.getppid())
    if len(sys.argv) > 2:
        show(Keyring.of_json(sys.argv[2]))
    with traced_as_told("client"):
        asyncio.run(_work())

"""The two ports that the loop calls out through, and what every call on them carries.

External routing puts gRPC behind them (`controller.remote`), internal routing the engine and the tools of the
same process. Both speak the contract's messages, so the loop cannot tell them apart.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from controller.deadline import Deadline
from treni.v1 import common_pb2, inference_pb2, tools_pb2

MODEL_HOP = "model"
TOOL_HOP = "tool"
AGENT_HOP = "agent"
"""The call of an agent that is a black box."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AttemptKey:
    """Names one attempt: try `attempt` of call `call_index` on `hop` in one run, all counted from 0."""

    hop: str
    run_id: str
    request_index: int
    call_index: int
    attempt: int


Annotate = Callable[[AttemptKey], Mapping[str, str]]
"""Extra metadata for an attempt, asked once as the attempt begins; {} for none."""


Connection = Literal["reused", "new", "faulted", "none"]
"""What an attempt went out on: a connection that stood, one yet to be made, what its fault chose, or none at all."""


@dataclass(kw_only=True, slots=True)
class Observed:
    """What a port saw of its attempt; the port writes it, the record keeps it."""

    connection: Connection = "none"


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """The context of one attempt. A port ends by `deadline`, with DEADLINE_EXCEEDED if it must."""

    key: AttemptKey
    deadline: Deadline
    metadata: Mapping[str, str] = field(default_factory=dict)
    observed: Observed = field(default_factory=Observed)


class ModelPort(Protocol):
    """Where completions come from."""

    def generate(
        self, request: inference_pb2.GenerateRequest, call: Call
    ) -> AsyncGenerator[inference_pb2.GenerateChunk, None]:
        """Streams a completion; the last chunk carries the finish. Closing the stream stops the work.

        Raises TreniError for whatever went wrong.
        """
        ...


class ToolPort(Protocol):
    """Where tools run."""

    async def specs(self, *, timeout_s: float) -> Sequence[common_pb2.ToolSpec]:
        """Every tool there is. Raises TreniError if the host of the tools does not say within `timeout_s`."""
        ...

    async def call(self, request: tools_pb2.CallToolRequest, call: Call) -> tools_pb2.CallToolResponse:
        """Runs one tool. Raises TreniError, the tool's own refusal of its arguments included."""
        ...

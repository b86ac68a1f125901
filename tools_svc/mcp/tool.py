"""A tool of an MCP server as one of ours: its calls, their idempotency, and how long anybody waits for them."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError, Future
from concurrent.futures import TimeoutError as NotYet
from contextlib import suppress
from typing import Any

import mcp_types as types

from tools_svc.arguments import decode
from tools_svc.mcp import translate
from tools_svc.mcp.connection import Connection
from tools_svc.memory import CallMemory
from tools_svc.protocol import Caller, CallInfo, Tool, ToolOutput, to_json
from tools_svc.suggest import clip
from treni.errors import Code, TreniError
from treni.v1.common_pb2 import ToolSpec

POLL_S = 0.05
"""How often a thread that waits asks whether its caller still does."""


class McpTool(Tool):
    """A tool of the server behind `connection`, called `spec.name` here and `tool.name` there.

    `memory` is that of the host, None for a tool whose calls may be repeated.
    """

    def __init__(
        self, *, connection: Connection, tool: types.Tool, spec: ToolSpec, memory: CallMemory | None
    ) -> None:
        self._connection = connection
        self._name = tool.name
        self._spec = spec
        self._memory = memory
        self._lock = threading.RLock()  # a call that fails at once is settled by who made it
        self._in_flight: dict[str, Future[ToolOutput]] = {}

    @property
    def spec(self) -> ToolSpec:
        """The tool as the model sees it."""
        return self._spec

    def arguments_check(self) -> Callable[[str], dict[str, Any]]:
        """The arguments as an object and no more: MCP has the server judge them, by a schema that may be anything."""
        return decode

    def run(self, arguments: Mapping[str, Any], info: CallInfo) -> ToolOutput:
        """What the server answers, as `translate.result_of` puts it.

        Raises `TreniError`: INVALID_ARGUMENT for what tool or server refuse; UNAVAILABLE and DEADLINE_EXCEEDED, not
        definite, for an answer that never came, came too late or is none; definite ones for a call that was not sent.
        A call that may have effects goes out once for an idempotency key: later ones wait for it, get its result as
        replayed, or FAILED_PRECONDITION, not definite, where nobody knows what became of it.
        """
        if self._memory is None or info.idempotency_key == "":
            future = self._sent(dict(arguments))
            try:
                return self._awaited(future, info.caller)
            except BaseException:
                future.cancel()
                raise
        return self._once(self._memory, dict(arguments), info)

    def _once(self, memory: CallMemory, arguments: dict[str, Any], info: CallInfo) -> ToolOutput:
        key, call = info.idempotency_key, f"{self._spec.name} {to_json(arguments)}"
        with self._lock:
            known = memory.begin(key, call)
            future = self._in_flight.get(key)
            if known is None:
                future = self._in_flight[key] = self._sent(arguments)
                future.add_done_callback(lambda done: self._settle(memory, key, done))
        if known is not None and known.result_json is not None:
            return ToolOutput(result=json.loads(known.result_json), replayed=True)
        if future is None:
            raise _unknown(self._spec.name)
        output = self._awaited(future, info.caller)
        return output if known is None else ToolOutput(result=output.result, replayed=True)

    def _settle(self, memory: CallMemory, key: str, done: Future[ToolOutput]) -> None:
        """Writes down what became of a call, whoever still waits for it; what is not written down counts as unknown."""
        with self._lock:
            del self._in_flight[key]
            if done.cancelled():
                return
            error = done.exception()
            with suppress(TreniError):
                if isinstance(error, TreniError) and error.definite:
                    memory.forget(key)
                elif error is None:
                    memory.keep(key, to_json(done.result().result))

    def _sent(self, arguments: dict[str, Any]) -> Future[ToolOutput]:
        return self._connection.call(self._name, arguments, self._output_of)

    def _output_of(self, answer: types.CallToolResult) -> ToolOutput:
        if answer.is_error:
            raise translate.refusal_of(self._spec.name, answer)
        try:
            return ToolOutput(result=translate.result_of(answer))
        except (ValueError, RecursionError) as error:
            raise translate.malformed(self._spec.name, str(error)) from None

    def _awaited(self, future: Future[ToolOutput], caller: Caller) -> ToolOutput:
        """The output, for as long as the caller waits for it."""
        began_s, wait_s = time.monotonic(), caller.work_s()
        while True:
            left_s = began_s + wait_s - time.monotonic()
            if left_s <= 0 or caller.gone:
                raise translate.late(self._spec.name, time.monotonic() - began_s)
            try:
                return future.result(timeout=min(POLL_S, left_s))
            except CancelledError:
                raise translate.lost(self._spec.name, "the end of its host") from None
            except NotYet:
                pass


def _unknown(name: str) -> TreniError:
    return TreniError(
        Code.FAILED_PRECONDITION,
        "mcp_outcome_unknown",
        expected=f"a first call of {clip(name)} under this idempotency key that was answered",
        got="one of which nobody knows what it did",
        todo="see what it did before it is called again, under a new key",
        definite=False,
    )

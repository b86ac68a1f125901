"""The registry: every tool by name, its arguments checked before it runs, its time measured where it runs."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from contextlib import ExitStack
from types import TracebackType

from tools_svc.builtin import TOOLS as TOOLS
from tools_svc.builtin import tool_specs as tool_specs
from tools_svc.protocol import Caller, CallInfo, Tool, ToolOutput, ToolsConfig, to_json
from tools_svc.sources import open_tools
from tools_svc.suggest import clip, did_you_mean
from treni import spans
from treni.errors import Code, TreniError, invalid_argument, unforeseen
from treni.limits import TOOL_RESULT
from treni.v1.common_pb2 import ToolSpec
from treni.v1.tools_pb2 import CallToolRequest, CallToolResponse

MAX_ID_CHARS = 256

_log = logging.getLogger(__name__)


def build_registry(config: ToolsConfig) -> Registry:
    """A registry of every tool of the config's sources.

    Raises `TreniError` for a source that cannot be opened, FAILED_PRECONDITION (`tool_unbuildable`) for a tool that
    cannot be built; then nothing is left open.
    """
    with ExitStack() as opened:
        tools = open_tools(config, opened)
        return Registry(tools, opened.pop_all())


class Registry:
    """Lists and calls tools. Thread-safe; a context manager that closes its tools, and then their `sources`."""

    def __init__(self, tools: Iterable[Tool], sources: ExitStack | None = None) -> None:
        self._tools = {tool.spec.name: tool for tool in tools}
        self._checks = {name: tool.arguments_check() for name, tool in self._tools.items()}
        self._sources = sources

    def specs(self) -> tuple[ToolSpec, ...]:
        """The tools as the model sees them."""
        return tuple(tool.spec for tool in self._tools.values())

    def __contains__(self, name: str) -> bool:
        return name in self._tools

    def call(self, request: CallToolRequest, caller: Caller | None = None) -> CallToolResponse:
        """Runs one tool to its result; blocks until it is done. None is a caller who waits as long as it takes.

        Raises `TreniError`: NOT_FOUND for an unknown tool, INVALID_ARGUMENT for arguments that do not fit (then
        nothing was changed), what the tool itself raises, INTERNAL (not definite) for a tool that broke, and for a
        result over `TOOL_RESULT` OUT_OF_RANGE, or DATA_LOSS (not definite) from a tool with side effects.
        """
        tool = self._tools.get(request.name)
        if tool is None:
            raise TreniError(
                Code.NOT_FOUND,
                "tool_unknown",
                expected="the name of a tool",
                got=f'"{clip(request.name)}"',
                todo=did_you_mean(request.name, tuple(self._tools)),
            )
        info = _call_info(request, Caller() if caller is None else caller)
        arguments = self._checks[request.name](request.arguments_json)
        started_s = time.perf_counter()
        try:
            with spans.tool(tool.spec.name):
                output = tool.run(arguments, info)
            tool_s = time.perf_counter() - started_s
            return _response(output, tool_s=tool_s, spec=tool.spec)
        except TreniError:
            raise
        except MemoryError as error:
            raise unforeseen(error, request.name) from error
        except Exception as error:
            _log.exception("%s broke", request.name)
            raise _broke(request.name, error) from error

    def close(self) -> None:
        """Closes every tool and its source."""
        for tool in self._tools.values():
            tool.close()
        if self._sources is not None:
            self._sources.close()

    def __enter__(self) -> Registry:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _call_info(request: CallToolRequest, caller: Caller) -> CallInfo:
    for name in ("run_id", "task_id", "idempotency_key"):
        length = len(getattr(request, name))
        if length > MAX_ID_CHARS:
            raise invalid_argument(
                "request_id_too_long",
                expected=f"{name} of at most {MAX_ID_CHARS} characters",
                got=f"{length} characters",
            )
    return CallInfo(
        run_id=request.run_id,
        task_id=request.task_id,
        attempt=request.attempt,
        idempotency_key=request.idempotency_key,
        caller=caller,
    )


def _response(output: ToolOutput, *, tool_s: float, spec: ToolSpec) -> CallToolResponse:
    result_json = to_json(output.result)
    size = len(result_json.encode())
    if size > TOOL_RESULT.most:
        raise _too_large(size, spec)
    return CallToolResponse(result_json=result_json, tool_s=tool_s, replayed=output.replayed)


def _too_large(size: int, spec: ToolSpec) -> TreniError:
    """Of a tool that only looks things up, the model may ask for less; what another did cannot be taken back."""
    error = TOOL_RESULT.exceeded(f"{size} of {spec.name}")
    if not spec.has_side_effects:
        return error
    return TreniError(
        Code.DATA_LOSS,
        error.kind,
        expected=error.expected,
        got=error.got,
        todo="see what the tool did before it is called again",
    )


def _broke(name: str, error: Exception) -> TreniError:
    return TreniError(
        Code.INTERNAL,
        "tool_failed",
        expected=f"{name} to answer or to refuse",
        got=clip(f"{type(error).__name__}: {error}"),
        todo="see the service's log; the work may have happened",
    )

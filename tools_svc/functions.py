"""A tool made of a plain function: its parameters are the schema, its docstring what the model reads."""

from __future__ import annotations

import inspect
import json
import threading
from collections.abc import Callable, Mapping
from typing import Any, overload

import pydantic
from pydantic.json_schema import GenerateJsonSchema

from tools_svc.memory import CallMemory
from tools_svc.protocol import CallInfo, Tool, ToolEntry, ToolOutput, ToolsConfig, to_json
from tools_svc.suggest import clip
from treni.errors import Code, TreniError, invalid_argument
from treni.v1.common_pb2 import ToolSpec

Function = Callable[..., Any]


@overload
def tool(function: Function) -> ToolEntry: ...
@overload
def tool(*, has_side_effects: bool) -> Callable[[Function], ToolEntry]: ...
def tool(
    function: Function | None = None, *, has_side_effects: bool = False
) -> ToolEntry | Callable[[Function], ToolEntry]:
    """A decorator that makes a tool of a function, under the function's name.

    Every parameter has a type that JSON has a form for; the first paragraph of the docstring says what the tool does,
    and `Annotated[str, pydantic.Field(description="...")]` what a parameter is. What the function returns is the
    result: a dict as it is, anything else under "result". A `ValueError` is the tool's refusal: nothing was changed,
    and the model reads why and may correct the call. Say `@tool(has_side_effects=True)` of a function that changes
    anything: it is called once for an idempotency key, one call at a time; others from several threads at once.
    Raises TypeError for a function that can be no tool.
    """
    if function is None:
        return lambda made: _entry(made, has_side_effects)
    return _entry(function, has_side_effects)


def _entry(function: Function, has_side_effects: bool) -> ToolEntry:
    spec = _spec(function, has_side_effects)

    def build(config: ToolsConfig) -> Tool:
        return _FunctionTool(spec, function, CallMemory(config.memory_path) if has_side_effects else None)

    return ToolEntry(spec=spec, build=build)


def _spec(function: Function, has_side_effects: bool) -> ToolSpec:
    name, about = function.__name__, inspect.getdoc(function)
    if about is None:
        raise TypeError(f"{name} needs a docstring: the model reads there what the tool does")
    if inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function):
        raise TypeError(f"{name} must be a plain function: it is called in a thread of its own")
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise TypeError(f"{name} must name each of its parameters, for the model to give them by name")
        if parameter.annotation is parameter.empty:
            raise TypeError(f"{name} needs a type for its parameter {parameter.name}")
    adapter = pydantic.TypeAdapter[Any](function)  # type: ignore[arg-type]  # it takes functions, too
    schema = adapter.json_schema(schema_generator=_Plain)
    schema = {"type": "object", "properties": {}, "required": [], **schema}
    schema.pop("additionalProperties", None)  # none is taken anyway, and a small model stumbles over the word
    return ToolSpec(
        name=name,
        description=about.partition("\n\n")[0].replace("\n", " "),
        parameters_json=to_json(schema),
        has_side_effects=has_side_effects,
    )


class _Plain(GenerateJsonSchema):
    """Without titles, which say the names again."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        """Never."""
        return False


class _FunctionTool(Tool):
    """The function as a tool; `memory` is for one that changes something, which is called one call at a time."""

    def __init__(self, spec: ToolSpec, function: Function, memory: CallMemory | None) -> None:
        self._spec = spec
        self._function = pydantic.validate_call(function)
        self._memory = memory
        self._lock = threading.Lock()

    @property
    def spec(self) -> ToolSpec:
        """The tool as the model sees it."""
        return self._spec

    def run(self, arguments: Mapping[str, Any], info: CallInfo) -> ToolOutput:
        """What the function returns. Raises INVALID_ARGUMENT (`tool_refused`) for its `ValueError`.

        Of one that changes something a call under a known idempotency key gives the first call's result, as replayed,
        or FAILED_PRECONDITION (`tool_outcome_unknown`) where nobody knows what came of that.
        """
        if self._memory is None or info.idempotency_key == "":
            return ToolOutput(result=self._called(arguments))
        with self._lock:
            return self._once(self._memory, arguments, info.idempotency_key)

    def _once(self, memory: CallMemory, arguments: Mapping[str, Any], key: str) -> ToolOutput:
        known = memory.begin(key, f"{self._spec.name} {to_json(arguments)}")
        if known is None:
            try:
                result = self._called(arguments)
            except TreniError as error:
                if error.definite:
                    memory.forget(key)
                raise
            memory.keep(key, to_json(result))
            return ToolOutput(result=result)
        if known.result_json is None:
            raise TreniError(
                Code.FAILED_PRECONDITION,
                "tool_outcome_unknown",
                expected=f"a first call of {self._spec.name} under this idempotency key that ended",
                got="one of which nobody knows what it did",
                todo="see what it did before it is called again, under a new key",
                definite=False,
            )
        return ToolOutput(result=json.loads(known.result_json), replayed=True)

    def _called(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        try:
            result = self._function(**arguments)
        except ValueError as error:
            raise invalid_argument(
                "tool_refused", expected=f"arguments that {self._spec.name} takes", got=clip(str(error))
            ) from error
        return result if isinstance(result, dict) else {"result": result}

    def close(self) -> None:
        """Closes the memory."""
        if self._memory is not None:
            self._memory.close()

"""What an answer says under the key `treni`, which OpenAI's clients pass over: where, how sure, how long."""

from __future__ import annotations

import math
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from pydantic import BaseModel, create_model

from runtime_svc.http_front.fields import Strict
from treni.v1 import common_pb2, inference_pb2


def _mirror(descriptor: Descriptor) -> type[BaseModel]:
    """The model of a contract's message of numbers, texts and such messages, with its fields under their names."""
    fields: dict[str, Any] = {field.name: (_type(field), ...) for field in descriptor.fields}
    return create_model(descriptor.name, __base__=Strict, **fields)


def _type(field: FieldDescriptor) -> Any:
    if field.message_type is not None:
        return _mirror(field.message_type) | None
    if field.cpp_type in (FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE):
        return float | None
    return str if field.cpp_type == FieldDescriptor.CPPTYPE_STRING else int


Timings = _mirror(common_pb2.EngineTimings.DESCRIPTOR)
AwarenessRecord = _mirror(common_pb2.Awareness.DESCRIPTOR)


class Extras(Strict):
    """How an answer came about.

    `seed` gives it again; `timings` (seconds) and `awareness` are the contract's messages, where null is a number that
    JSON cannot hold or a part that there is none of. `malformed_tool_call` says why a call in the text is none.
    """

    backend: str
    device: str
    seed: int
    timings: Timings  # type: ignore[valid-type]
    awareness: AwarenessRecord  # type: ignore[valid-type]
    constrained: bool
    stop_sequence: str | None
    thought_cut: bool
    unfinished_thought: bool
    malformed_tool_call: str | None


def extras_of(finish: inference_pb2.GenerateFinish, *, seed: int) -> Extras:
    """The extras of an answer whose tokens were drawn by `seed`."""
    return Extras(
        backend=finish.backend,
        device=finish.device,
        seed=seed,
        timings=Timings.model_validate(_values(finish.timings)),
        awareness=AwarenessRecord.model_validate(_values(finish.awareness)),
        constrained=finish.constrained,
        stop_sequence=finish.stop_sequence or None,
        thought_cut=finish.thought_cut,
        unfinished_thought=finish.unfinished_thought,
        malformed_tool_call=finish.malformed_tool_call or None,
    )


def _values(message: Message) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for field in message.DESCRIPTOR.fields:
        value = getattr(message, field.name)
        if field.message_type is not None:
            value = _values(value) if message.HasField(field.name) else None
        elif isinstance(value, float) and not math.isfinite(value):
            value = None
        values[field.name] = value
    return values

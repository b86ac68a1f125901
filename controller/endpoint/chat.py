"""The contract's messages in OpenAI's chat format, and what such a server answers read back: pure, and strict."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pydantic
from pydantic import BaseModel, ConfigDict, Field

from controller.endpoint.failures import clip, malformed
from controller.ports import MODEL_HOP
from treni.errors import Code, TreniError
from treni.v1 import common_pb2, inference_pb2

BACKEND = "endpoint"
"""The backend in the records of a model that nobody here knows more of."""

MAX_CALLS = 64
_UNSUPPORTED = ("tool_choice", "constraint", "constrain_calls", "stop", "top_logprobs", "thinking")


def body_of(
    request: inference_pb2.GenerateRequest,
    *,
    model: str,
    parameters: Mapping[str, Any],
    omit: Collection[str],
) -> dict[str, Any]:
    """The body of a chat completion that streams: `parameters` are set in it, and the keys in `omit` left out.

    Raises UNIMPLEMENTED (`parameter_unsupported`) that names what of the request an endpoint is not asked for.
    """
    present = {descriptor.name for descriptor, _ in request.ListFields()}
    wanted = [name for name in _UNSUPPORTED if name in present]
    if request.sampling.top_k:
        wanted.append("top_k")
    if wanted:
        raise TreniError(
            Code.UNIMPLEMENTED,
            "parameter_unsupported",
            expected="parameters that every endpoint has",
            got=", ".join(wanted),
            todo="leave that out for this arm",
            hop=MODEL_HOP,
        )
    sampling = request.sampling
    body: dict[str, Any] = {
        "model": model,
        "messages": _messages(request.messages),
        "temperature": round(sampling.temperature, 6),
        "seed": sampling.seed,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if sampling.top_p not in (0, 1):
        body["top_p"] = round(sampling.top_p, 6)
    if sampling.max_new_tokens:
        body["max_tokens"] = sampling.max_new_tokens
    if request.tools:
        body["tools"] = [
            {
                "type": "function",
                "function": {
                    "name": tool.name,
                    "description": tool.description,
                    "parameters": json.loads(tool.parameters_json or "{}"),
                },
            }
            for tool in request.tools
        ]
    body |= parameters
    return {key: value for key, value in body.items() if key not in omit}


def _messages(messages: Sequence[common_pb2.Message]) -> list[dict[str, Any]]:
    written = []
    called = set[str]()
    for message in messages:
        if message.role == "tool" and message.tool_call_id not in called:
            # What answers no call that the server has seen: a call that nobody could read.
            written.append({"role": "user", "content": message.content})
            continue
        one: dict[str, Any] = {"role": message.role, "content": message.content}
        if message.name:
            one["name"] = message.name
        if message.role == "tool":
            one["tool_call_id"] = message.tool_call_id
        if message.tool_calls:
            one["tool_calls"] = [
                {
                    "id": call.id,
                    "type": "function",
                    "function": {"name": call.name, "arguments": call.arguments_json},
                }
                for call in message.tool_calls
            ]
            one["content"] = message.content or None
            called |= {call.id for call in message.tool_calls}
        written.append(one)
    return written


class _Told(BaseModel):
    """Part of an answer: what we read has its type, and what we don't know is somebody else's."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)


class _Function(_Told):
    name: str | None = None
    arguments: str | None = None


class _Call(_Told):
    index: int | None = Field(default=None, ge=0, lt=MAX_CALLS)
    id: str | None = Field(default=None, max_length=256)
    function: _Function | None = None


class _Said(_Told):
    content: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[_Call] | None = None


class _Choice(_Told):
    index: int = 0
    delta: _Said | None = None
    message: _Said | None = None
    finish_reason: str | None = None


class _Details(_Told):
    cached_tokens: int | None = Field(default=None, ge=0, lt=2**32)


class _Usage(_Told):
    prompt_tokens: int = Field(ge=0, lt=2**32)
    completion_tokens: int = Field(ge=0, lt=2**32)
    prompt_tokens_details: _Details | None = None


class _Chunk(_Told):
    choices: list[_Choice] = []
    usage: _Usage | None = None
    model: str | None = Field(default=None, max_length=256)
    system_fingerprint: str | None = Field(default=None, max_length=256)
    error: Any = None


@dataclass(kw_only=True, slots=True)
class _Written:
    """A tool call as far as it has come."""

    id: str = ""
    names: list[str] = field(default_factory=list)
    pieces: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The tool's name."""
        return "".join(self.names)

    @property
    def arguments(self) -> str:
        """The arguments, as they were written."""
        return "".join(self.pieces)


@dataclass(kw_only=True, slots=True)
class Completion:
    """A completion put together from what a server sends; `model` is the one that was asked for until it tells another.

    `turn` makes the ids of calls that the server left without one unlike those of other turns.
    """

    model: str
    turn: int
    reason: str = ""
    fingerprint: str = ""
    usage: common_pb2.Usage | None = None
    _content: list[str] = field(default_factory=list)
    _thinking: list[str] = field(default_factory=list)
    _calls: dict[int, _Written] = field(default_factory=dict)

    def feed(self, data: bytes) -> str:
        """Takes a chunk, or a whole completion, as JSON; the text that it adds.

        Raises INTERNAL (`answer_malformed`) for what is neither, and the server's own error where it tells of one.
        """
        try:
            chunk = _Chunk.model_validate_json(data)
        except pydantic.ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(map(str, first["loc"]))
            got = f"{where}: {first['msg']}" if where else first["msg"]
            raise malformed("a chat completion or a chunk of one, as JSON", got, hop=MODEL_HOP) from None
        if chunk.error is not None:
            message = chunk.error.get("message") if isinstance(chunk.error, dict) else chunk.error
            raise TreniError(
                Code.UNAVAILABLE,
                "stream_error",
                expected="the stream to end with an answer",
                got=f"an error in it: {clip(str(message))}",
                todo="see what it says",
                definite=False,
                hop=MODEL_HOP,
                foreign=True,
            )
        self.model = chunk.model or self.model
        self.fingerprint = chunk.system_fingerprint or self.fingerprint
        if chunk.usage is not None:
            details = chunk.usage.prompt_tokens_details
            self.usage = common_pb2.Usage(
                prompt_tokens=chunk.usage.prompt_tokens,
                completion_tokens=chunk.usage.completion_tokens,
                cached_prompt_tokens=0 if details is None else details.cached_tokens or 0,
            )
        added = ""
        for choice in chunk.choices:
            if choice.index == 0:
                added += self._choose(choice)
        return added

    def _choose(self, choice: _Choice) -> str:
        self.reason = choice.finish_reason or self.reason
        said = choice.delta or choice.message
        if said is None:
            return ""
        added = (said.content or "") + (said.refusal or "")
        self._content.append(added)
        self._thinking.append(said.reasoning_content or said.reasoning or "")
        for call in said.tool_calls or ():
            self._call(call)
        return added

    def _call(self, call: _Call) -> None:
        index = call.index
        if index is None:
            # Servers that send calls whole leave the index out: a new id, or a name, begins another.
            begins = bool(call.id) or (call.function is not None and bool(call.function.name))
            index = len(self._calls) - (0 if begins or not self._calls else 1)
        if index >= MAX_CALLS:
            raise malformed(f"at most {MAX_CALLS} tool calls in a turn", "more", hop=MODEL_HOP)
        written = self._calls.setdefault(index, _Written())
        written.id = written.id or call.id or ""
        if call.function is not None:
            written.names.append(call.function.name or "")
            written.pieces.append(call.function.arguments or "")

    def finish(self) -> inference_pb2.GenerateFinish:
        """The finish of the completion.

        Raises FAILED_PRECONDITION (`content_filtered`) where the server kept the answer back.
        """
        if self.reason == "content_filter":
            raise TreniError(
                Code.FAILED_PRECONDITION,
                "content_filtered",
                expected="an answer",
                got="one that the endpoint's filter kept back",
                todo="ask otherwise",
                definite=False,
                hop=MODEL_HOP,
                foreign=True,
            )
        content, thinking = "".join(self._content), "".join(self._thinking)
        calls = [self._calls[index] for index in sorted(self._calls)]
        wrong = next((why for call in calls if (why := _wrong(call))), "")
        made = inference_pb2.GenerateFinish(
            reason="length" if self.reason == "length" else "tool_calls" if calls and not wrong else "stop",
            text=content,
            malformed_tool_call=wrong,
            usage=self.usage,
            backend=BACKEND,
            device=self.fingerprint,
            model=self.model,
        )
        if wrong:
            made.text += json.dumps([{"name": call.name, "arguments": call.arguments} for call in calls])
        else:
            made.tool_calls.extend(
                common_pb2.ToolCall(
                    name=call.name,
                    arguments_json=call.arguments or "{}",
                    # Nine letters and digits: there are servers that take no other form.
                    id=call.id or f"t{self.turn % 10_000:04d}n{number % 1000:03d}",
                )
                for number, call in enumerate(calls)
            )
        if thinking:
            made.content, made.thinking = content, thinking
        return made


def _wrong(call: _Written) -> str:
    """Why nobody can make the call, "" where it can be made."""
    if not call.name:
        return f"a call without a name, with {clip(call.arguments)!r}"
    try:
        arguments = json.loads(call.arguments or "{}")
    except (ValueError, RecursionError):
        arguments = None
    return "" if isinstance(arguments, dict) else f"{call.name} with {clip(call.arguments)!r}"

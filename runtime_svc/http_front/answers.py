"""Answers as OpenAI's clients read them, whole and in chunks. Their models are what the description is made of too."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from typing import Literal

from runtime_svc.http_front.errors import inference_required
from runtime_svc.http_front.extras import Extras, extras_of
from runtime_svc.http_front.fields import Strict
from treni.v1 import common_pb2, inference_pb2

LEAST_LOGPROB = -9999.0
"""What stands for the logarithm of nothing, as OpenAI has it: JSON has no infinity."""

Reason = Literal["stop", "length", "tool_calls"]


class AnsweredFunction(Strict):
    """The function that the model calls, with its arguments exactly as it wrote them: a JSON object."""

    name: str
    arguments: str


class AnsweredCall(Strict):
    """A tool call. Its id is unique over all turns and processes."""

    id: str
    type: Literal["function"]
    function: AnsweredFunction


class CallDelta(AnsweredCall):
    """A whole tool call of a streamed answer, the `index`-th."""

    index: int


class AnswerMessage(Strict):
    """The assistant's turn: what is said before any call, what was thought, and the calls."""

    role: Literal["assistant"]
    content: str | None
    refusal: None
    reasoning_content: str | None = None
    tool_calls: list[AnsweredCall] | None = None


class Delta(Strict):
    """What a chunk adds to the assistant's turn."""

    role: Literal["assistant"] | None = None
    content: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[CallDelta] | None = None


class Alternative(Strict):
    """A token that could have been chosen, and the logarithm of its probability before temperature and limits."""

    token: str
    logprob: float
    bytes: list[int]


class TokenLogprob(Alternative):
    """A token of the completion, whatever it was for, and the most likely ones in its place."""

    top_logprobs: list[Alternative]


class Logprobs(Strict):
    """Every token of the completion in order, those of thoughts, calls and the end of the turn included."""

    content: list[TokenLogprob]
    refusal: None


class PromptDetails(Strict):
    """How many of the prompt's tokens were found in the KV cache."""

    cached_tokens: int


class CompletionDetails(Strict):
    """How many of the completion's tokens were thought."""

    reasoning_tokens: int


class Usage(Strict):
    """Tokens of an answer."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails
    completion_tokens_details: CompletionDetails


class Choice(Strict):
    """The one answer to a request."""

    index: int
    message: AnswerMessage
    logprobs: Logprobs | None
    finish_reason: Reason


class ChatCompletion(Strict):
    """The body of an answer that is not streamed."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[Choice]
    usage: Usage
    treni: Extras


class ChunkChoice(Strict):
    """What a chunk says of the one answer; the last one with `finish_reason` has its logprobs, if any."""

    index: int
    delta: Delta
    logprobs: Logprobs | None
    finish_reason: Reason | None


class ChatChunk(Strict):
    """An event of a streamed answer; the one with `finish_reason` has the extras."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: Usage | None = None
    treni: Extras | None = None


class Head:
    """What all parts of one answer say alike."""

    def __init__(self, model: str) -> None:
        self.id = f"chatcmpl-{uuid.uuid4().hex}"
        self.created = int(time.time())
        self.model = model


def check_inferred(finish: inference_pb2.GenerateFinish | None) -> inference_pb2.GenerateFinish:
    """The finish of a generation, if a model has computed one. Raises `inference_required` otherwise."""
    if finish is None:
        raise inference_required("a generation without an end")
    if not finish.backend or not finish.usage.completion_tokens:
        raise inference_required("an answer that names no backend, or has no tokens")
    return finish


def completion(
    head: Head,
    finish: inference_pb2.GenerateFinish,
    request: inference_pb2.GenerateRequest,
    alternatives: int | None,
) -> ChatCompletion:
    """A whole answer; `alternatives` is how many each token's logprob has beside it, None for no logprobs."""
    calls = list(answered_calls(finish))
    message = AnswerMessage(role="assistant", content=said(finish) or (None if calls else ""), refusal=None)
    more: dict[str, object] = {}
    if finish.thinking:
        more["reasoning_content"] = finish.thinking
    if calls:
        more["tool_calls"] = calls
    message = message.model_copy(update=more)
    choice = Choice(
        index=0,
        message=message,
        logprobs=logprobs(finish, alternatives),
        finish_reason=reason_of(finish),
    )
    return ChatCompletion(
        id=head.id,
        object="chat.completion",
        created=head.created,
        model=head.model,
        choices=[choice],
        usage=usage_of(finish.usage, thinking=finish.thinking_tokens),
        treni=extras_of(finish, seed=request.sampling.seed),
    )


def said(finish: inference_pb2.GenerateFinish) -> str:
    """What the answer's content is: what is said before any call, or all of it where a call is none."""
    malformed = finish.malformed_tool_call and not finish.tool_calls
    return finish.text if malformed else finish.content


def reason_of(finish: inference_pb2.GenerateFinish) -> Reason:
    """Why the answer ends, in OpenAI's words, which are the contract's."""
    reason: Reason = "tool_calls" if finish.tool_calls else "length" if finish.reason == "length" else "stop"
    return reason


def answered_calls(finish: inference_pb2.GenerateFinish) -> Iterator[AnsweredCall]:
    """The answer's calls in order, each with an id that no other has."""
    for call in finish.tool_calls:
        yield AnsweredCall(id=f"call_{uuid.uuid4().hex}", type="function", function=_function(call))


def usage_of(usage: common_pb2.Usage, *, thinking: int) -> Usage:
    """The token counts of an answer, of which `thinking` were thought."""
    return Usage(
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        total_tokens=usage.prompt_tokens + usage.completion_tokens,
        prompt_tokens_details=PromptDetails(cached_tokens=usage.cached_prompt_tokens),
        completion_tokens_details=CompletionDetails(reasoning_tokens=thinking),
    )


def logprobs(finish: inference_pb2.GenerateFinish, alternatives: int | None) -> Logprobs | None:
    """The logprobs of every token, with the first `alternatives` of its place; None where none were asked for."""
    if alternatives is None:
        return None
    content = [
        TokenLogprob(
            token=token.text.decode(errors="replace"),
            logprob=max(token.logprob, LEAST_LOGPROB),
            bytes=list(token.text),
            top_logprobs=[_token(other.text, other.logprob) for other in token.top[:alternatives]],
        )
        for token in finish.tokens
    ]
    return Logprobs(content=content, refusal=None)


def _token(text: bytes, logprob: float) -> Alternative:
    return Alternative(
        token=text.decode(errors="replace"), logprob=max(logprob, LEAST_LOGPROB), bytes=list(text)
    )


def _function(call: common_pb2.ToolCall) -> AnsweredFunction:
    return AnsweredFunction(name=call.name, arguments=call.arguments_json)

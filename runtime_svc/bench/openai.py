"""A streamed chat completion of an OpenAI-compatible server, with the moments of its first and last text."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
import pydantic

from runtime_svc.bench.contender import Failed

MAX_EVENT_BYTES = 16 * 1024 * 1024
"""The size limit of one server-sent event: what is longer is no chunk of an answer."""

_FINISHED = ("stop", "length")
"""Why an answer ends that is whole; others name what cut it short: "abort", "error", "content_filter"."""

_LINE_END = re.compile(rb"\r\n|\n|\r")


class _Loose(pydantic.BaseModel):
    """A part of an answer: what is read of it has the right type, and servers may add what they like."""

    model_config = pydantic.ConfigDict(extra="ignore", frozen=True, strict=True)


class _Delta(_Loose):
    """New text: an answer's, or a thinking model's, which servers put under two names."""

    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None

    @property
    def has_text(self) -> bool:
        return bool(self.content or self.reasoning_content or self.reasoning)


class _Choice(_Loose):
    delta: _Delta | None = None
    finish_reason: str | None = None


class _Usage(_Loose):
    prompt_tokens: int = pydantic.Field(ge=0)
    completion_tokens: int = pydantic.Field(ge=0)


class _Chunk(_Loose):
    object: str | None = None
    error: Any = None
    choices: tuple[_Choice, ...] | None = pydantic.Field(default=None, strict=False)
    usage: _Usage | None = None


class _Entry(_Loose):
    id: str


class _Models(_Loose):
    data: tuple[_Entry, ...] = pydantic.Field(strict=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """A completion. Moments are `time.monotonic()`; token counts are the server's own.

    `first_s` and `last_s` are the first and last text's, None without any: a token need not have text.
    """

    sent_s: float
    first_s: float | None
    last_s: float | None
    prompt_tokens: int
    completion_tokens: int


async def models(client: httpx.AsyncClient) -> list[str]:
    """The ids that the server offers. Raises `Failed` when it answers with anything but a list of them."""
    response = await client.get("models")
    if response.status_code != 200:
        raise Failed(_refusal("GET models", response.status_code, response.text))
    try:
        return [entry.id for entry in _Models.model_validate_json(response.content).data]
    except pydantic.ValidationError:
        raise Failed(f"GET models: not a list of models: {response.text[:200]!r}") from None


async def complete(client: httpx.AsyncClient, model: str, prompt: str, tokens: int) -> Answer:
    """Asks for `tokens` greedy tokens after `prompt` and reads them as they come.

    Raises `Failed` for a refusal, a stream that is no server-sent events of chunks, one that ends early or says that it
    was cut short, one without usage, and for what the connection does.
    """
    body = {
        "model": model,
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": tokens,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    sent_s = time.monotonic()
    first_s = last_s = None
    usage: _Usage | None = None
    finished: str | None = None
    try:
        async with client.stream("POST", "chat/completions", json=body) as response:
            if response.status_code != 200:
                text = (await response.aread()).decode(errors="replace")
                raise Failed(_refusal("POST chat/completions", response.status_code, text))
            async for event in sse_events(response.aiter_bytes()):
                if event.data == "[DONE]":
                    break
                if not event.data:  # some keep the connection open so
                    continue
                chunk = _chunk(event)
                usage = chunk.usage or usage
                for choice in chunk.choices or ():
                    if choice.delta is not None and choice.delta.has_text:
                        last_s = time.monotonic()
                        first_s = last_s if first_s is None else first_s
                    finished = choice.finish_reason or finished
    except httpx.HTTPError as error:
        raise Failed(f"the stream broke: {type(error).__name__}: {error}") from None
    if finished is None:
        raise Failed("the stream ended before its answer did")
    if finished not in _FINISHED:
        raise Failed(f"the answer was cut short: finish_reason {finished[:80]!r}")
    if usage is None:
        raise Failed("the answer has no token counts; without them nothing can be compared")
    return Answer(
        sent_s=sent_s,
        first_s=first_s,
        last_s=last_s,
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """A server-sent event; `kind` is "" where the server names none."""

    kind: str
    data: str


async def sse_events(chunks: AsyncIterator[bytes]) -> AsyncIterator[Event]:
    """Each server-sent event with data; comments and other fields are skipped (WHATWG HTML, section 9.2.6).

    Raises `Failed` for an event of more than `MAX_EVENT_BYTES`.
    """
    kind, held, size = "", list[str](), 0
    async for line in _sse_lines(chunks):
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        size += len(line)
        if size > MAX_EVENT_BYTES:
            raise _too_long()
        if name == "data":
            held.append(value)
        elif name == "event":
            kind = value
        elif not line:
            if held:
                yield Event(kind=kind, data="\n".join(held))
            kind, held, size = "", [], 0
    if held:  # the standard drops an event without its blank line; servers that end so still mean it
        yield Event(kind=kind, data="\n".join(held))


async def _sse_lines(chunks: AsyncIterator[bytes]) -> AsyncIterator[str]:
    """Lines end with CR LF, LF or CR, never with what Unicode counts as a line's end; a byte order mark is left out."""
    rest, after_cr, first = b"", False, True
    async for chunk in chunks:
        new = chunk.removeprefix(b"\n") if after_cr else chunk
        after_cr = chunk.endswith(b"\r")
        *lines, rest = _LINE_END.split(rest + new)
        if len(rest) > MAX_EVENT_BYTES:
            raise _too_long()
        for line in lines:
            text = line.decode(errors="replace")
            yield text.removeprefix("\ufeff") if first else text
            first = False
    if rest:
        yield rest.decode(errors="replace")


def _too_long() -> Failed:
    return Failed(f"an event of more than {MAX_EVENT_BYTES >> 20} MiB")


def _chunk(event: Event) -> _Chunk:
    try:
        chunk = _Chunk.model_validate_json(event.data)
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"])) or "the text"
        raise Failed(f"an event is no chunk ({key}: {first['msg']}): {event.data[:200]!r}") from None
    if event.kind == "error" or chunk.error or chunk.object == "error":
        raise Failed(f"the server sent an error: {event.data[:200]}")
    return chunk


def _refusal(what: str, status: int, text: str) -> str:
    return f"{what}: HTTP {status}: {' '.join(text.split())[:200]}"

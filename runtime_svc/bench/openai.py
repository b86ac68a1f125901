"""A streamed chat completion of an OpenAI-compatible server, with the moments of its first and last text."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx

from runtime_svc.bench.contender import Failed

_TEXT_KEYS = ("content", "reasoning_content", "reasoning")
"""Where servers put generated text in a delta: the answer's, and a thinking model's."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """A completion. Moments are `time.monotonic()`; token counts are the server's own."""

    sent_s: float
    first_s: float
    last_s: float
    prompt_tokens: int
    completion_tokens: int


async def models(client: httpx.AsyncClient) -> list[str]:
    """The ids that the server offers. Raises `Failed` when it answers with anything but a list of them."""
    response = await client.get("models")
    if response.status_code != 200:
        raise Failed(_refusal("GET models", response.status_code, response.text))
    try:
        return [str(entry["id"]) for entry in response.json()["data"]]
    except (ValueError, LookupError, TypeError):
        raise Failed(f"GET models: not a list of models: {response.text[:200]!r}") from None


async def complete(client: httpx.AsyncClient, model: str, prompt: str, tokens: int) -> Answer:
    """Asks for `tokens` greedy tokens after `prompt` and reads them as they come.

    Raises `Failed` for a refusal, a stream that is no server-sent events of chunks, one that ends early, one
    without text or without usage, and for what the connection does.
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
    usage: dict[str, Any] | None = None
    complete = False
    try:
        async with client.stream("POST", "chat/completions", json=body) as response:
            if response.status_code != 200:
                text = (await response.aread()).decode(errors="replace")
                raise Failed(_refusal("POST chat/completions", response.status_code, text))
            async for data in sse_data(response.aiter_lines()):
                if data == "[DONE]":
                    complete = True
                    break
                chunk = _chunk(data)
                usage = chunk.get("usage") or usage
                for choice in chunk.get("choices") or ():
                    delta = choice.get("delta") or {}
                    if any(delta.get(key) for key in _TEXT_KEYS):
                        last_s = time.monotonic()
                        first_s = last_s if first_s is None else first_s
                    complete = complete or choice.get("finish_reason") is not None
    except httpx.HTTPError as error:
        raise Failed(f"the stream broke: {type(error).__name__}: {error}") from None
    if not complete:
        raise Failed("the stream ended before its answer did")
    if first_s is None or last_s is None:
        raise Failed("the answer has no text")
    return Answer(sent_s=sent_s, first_s=first_s, last_s=last_s, **_counts(usage))


async def sse_data(lines: AsyncIterator[str]) -> AsyncIterator[str]:
    """The data of each server-sent event; comments and other fields are skipped (WHATWG HTML, section 9.2.6)."""
    held: list[str] = []
    async for line in lines:
        if line.startswith("data:"):
            held.append(line[5:].removeprefix(" "))
        elif not line and held:
            yield "\n".join(held)
            held.clear()
    if held:  # the standard drops an event without its blank line; servers that end so still mean it
        yield "\n".join(held)


def _chunk(data: str) -> dict[str, Any]:
    try:
        chunk = json.loads(data)
    except ValueError:
        raise Failed(f"an event is no JSON: {data[:200]!r}") from None
    if not isinstance(chunk, dict):
        raise Failed(f"an event is no JSON object: {data[:200]!r}")
    if chunk.get("error"):
        raise Failed(f"the server sent an error: {json.dumps(chunk['error'])[:200]}")
    return chunk


def _counts(usage: dict[str, Any] | None) -> dict[str, int]:
    names = ("prompt_tokens", "completion_tokens")
    if usage is None or not all(type(usage.get(name)) is int for name in names):
        raise Failed(f"the answer has no token counts: usage {usage!r}; without them nothing can be compared")
    return {name: usage[name] for name in names}


def _refusal(what: str, status: int, text: str) -> str:
    return f"{what}: HTTP {status}: {' '.join(text.split())[:200]}"

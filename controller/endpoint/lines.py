"""The lines and server-sent events of an HTTP answer, bounded: a server that floods is given up."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

import httpx

from controller.endpoint.failures import malformed

MAX_LINE_BYTES = 1024 * 1024
MAX_BODY_BYTES = 16 * 1024 * 1024


async def lines(response: httpx.Response, *, hop: str) -> AsyncGenerator[bytes, None]:
    """Each line of the body as it comes, without its end; the last one need have none.

    Raises INTERNAL (`answer_malformed`) for a body in another encoding, a line over `MAX_LINE_BYTES`, or a body over
    `MAX_BODY_BYTES`.
    """
    if (encoding := response.headers.get("content-encoding", "identity")) != "identity":
        # Not asked for, and a few bytes of it may unfold to any number.
        raise malformed("an answer without a content encoding", encoding, hop=hop)
    rest, total = bytearray(), 0
    async for part in response.aiter_raw():
        total += len(part)
        if total > MAX_BODY_BYTES:
            raise malformed(f"an answer of at most {MAX_BODY_BYTES} bytes", "more", hop=hop)
        first, *others = part.split(b"\n")
        rest += first
        for other in others:
            yield bytes(rest).removesuffix(b"\r")
            rest = bytearray(other)
        if len(rest) > MAX_LINE_BYTES:
            raise malformed(f"lines of at most {MAX_LINE_BYTES} bytes", "a longer one", hop=hop)
    if rest:
        yield bytes(rest)


async def whole(response: httpx.Response, *, hop: str) -> bytes:
    """The whole body. Raises as `lines` does, for the body alone."""
    body = bytearray()
    if (encoding := response.headers.get("content-encoding", "identity")) != "identity":
        raise malformed("an answer without a content encoding", encoding, hop=hop)
    async for part in response.aiter_raw():
        body += part
        if len(body) > MAX_BODY_BYTES:
            raise malformed(f"an answer of at most {MAX_BODY_BYTES} bytes", "more", hop=hop)
    return bytes(body)


async def events(response: httpx.Response, *, hop: str) -> AsyncGenerator[bytes, None]:
    """The data of each server-sent event. Raises as `lines` does."""
    data: list[bytes] = []
    async with aclosing(lines(response, hop=hop)) as every:
        async for line in every:
            if line.startswith(b"data:"):
                data.append(line.removeprefix(b"data:").removeprefix(b" "))
            elif not line and data:
                yield b"\n".join(data)
                data = []
    if data:
        yield b"\n".join(data)

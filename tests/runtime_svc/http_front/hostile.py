"""Requests that nobody should send, each by itself on a connection of its own."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any

from runtime_svc.http_front.errors import ErrorBody
from tests.runtime_svc.http_front.front import TOOLS, asking
from tests.runtime_svc.http_front.sockets import Wire, post, wire

LARGE_BYTES = 64_000_000

ODD: tuple[Any, ...] = (
    None, True, 0, -1, 2**63, 2**70, 1e308, 0.5, "", "x", "\u0000", "\U0010ffff" * 9, "<|im_end|>", [], [[]], {},
    {"": {}}, [None], "a" * 9000, {"type": "object"}, {"$ref": "#"}, [0] * 500,
)  # fmt: skip

GARBAGE = (
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"GET / HTTP/1.1\r\n\r\n", b"\r\n\r\n\r\n",
    b"BREW /pot HTCPCP/1.0\r\n\r\n",
    b"POST /v1/embeddings HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
    b"POST /v1/embeddings HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nZZ\r\n",
    b"POST /v1/embeddings HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip\r\n\r\n",
    b"GET /v1/models HTTP/1.1\r\nhost: a\r\n" + b"a: b\r\n" * 9000 + b"\r\n",
    b"GET /%00/%ff/../../etc/passwd HTTP/1.1\r\nhost: a\r\n\r\n",
)  # fmt: skip


def good(**more: Any) -> dict[str, Any]:
    """What is made wrong here: a small request with a little of everything."""
    return asking("Calculate 8 divided by 5.", tools=TOOLS[:2], max_tokens=3, stop=["\n"], seed=1, **more)


def mutated(drawn: random.Random, value: Any, *, depth: int = 0) -> Any:
    """The JSON value with something else in some places."""
    if drawn.random() < 0.08 + 0.02 * depth:
        return drawn.choice(ODD)
    if isinstance(value, dict):
        changed = {key: mutated(drawn, item, depth=depth + 1) for key, item in value.items()}
        if changed and drawn.random() < 0.1:
            changed.pop(drawn.choice(list(changed)))
        if drawn.random() < 0.1:
            changed[drawn.choice(["", "n", "logprobs", "response_format", "audio", "\u2028"])] = drawn.choice(
                ODD
            )
        return changed
    if isinstance(value, list):
        changed_list = [mutated(drawn, item, depth=depth + 1) for item in value]
        return changed_list * drawn.choice([1, 1, 1, 2])
    return value


async def _fuzzed(client: Wire, drawn: random.Random) -> int:
    path = drawn.choice(["/v1/chat/completions", "/chat/completions", "/v1/embeddings"])
    body = (
        {"model": "treni-tiny", "input": ["a", "b"]} if "emb" in path else good(stream=drawn.random() < 0.3)
    )
    await client.send(post(json.dumps(mutated(drawn, body)).encode(), "connection: close", path=path))
    return await _told(client)


async def _damaged(client: Wire, drawn: random.Random) -> int:
    body = bytearray(json.dumps(good()).encode())
    for _ in range(drawn.randint(1, 6)):
        at = drawn.randrange(len(body))
        body[at : at + drawn.randint(0, 3)] = drawn.randbytes(drawn.randint(0, 3))
    await client.send(post(bytes(body), "connection: close"))
    return await _told(client)


async def _noise(client: Wire, drawn: random.Random) -> int:
    await client.send(post(drawn.randbytes(drawn.randint(0, 3000)), "connection: close"))
    return await _told(client)


async def _garbage(client: Wire, drawn: random.Random) -> int:
    await client.send(drawn.choice(GARBAGE))
    client.writer.write_eof()
    return await _told(client)


async def _truncated(client: Wire, drawn: random.Random) -> int:
    data = post(good(stream=True))
    await client.send(data[: drawn.randrange(len(data))])
    await asyncio.sleep(drawn.random() * 0.02)
    return 0


async def _dribbled(client: Wire, drawn: random.Random) -> int:
    data = post(good(), "connection: close")
    for at in range(0, len(data), 97):
        await client.send(data[at : at + 97])
        await asyncio.sleep(0)
    return await _told(client)


async def _large(client: Wire, drawn: random.Random) -> int:
    piece = b" " * 1_000_000
    chunked = drawn.random() < 0.5
    await client.send(
        post(b"", "transfer-encoding: chunked" if chunked else f"content-length: {LARGE_BYTES}")
    )
    telling = asyncio.ensure_future(_told(client))
    with suppress(ConnectionError):
        for _ in range(LARGE_BYTES // len(piece)):
            await client.send(b"%x\r\n" % len(piece) + piece + b"\r\n" if chunked else piece)
    status = await telling
    assert status == 413, "who sends too much hears it"
    return status


async def _slow_reader(client: Wire, drawn: random.Random) -> int:
    body = {"model": "treni-tiny", "input": ["word"] * 256, "encoding_format": "float"}
    await client.send(post(body, path="/v1/embeddings") * 3)
    await client.reader.read(10)
    await asyncio.sleep(drawn.random() * 0.3)
    return 0


async def _left(client: Wire, drawn: random.Random) -> int:
    await client.send(post(good(stream=True) | {"max_tokens": 200}))
    if drawn.random() < 0.7:
        await client.reader.read(drawn.randint(1, 600))
    return 0


async def _pipelined(client: Wire, drawn: random.Random) -> int:
    await client.send(post(good()) * 3 + post(b"{", "connection: close"))
    return await _told(client)


KINDS: Mapping[str, tuple[Callable[[Wire, random.Random], Awaitable[int]], int]] = {
    "fuzzed": (_fuzzed, 40),
    "damaged": (_damaged, 12),
    "noise": (_noise, 8),
    "garbage": (_garbage, 10),
    "truncated": (_truncated, 10),
    "dribbled": (_dribbled, 4),
    "large": (_large, 2),
    "slow_reader": (_slow_reader, 1),
    "left": (_left, 10),
    "pipelined": (_pipelined, 3),
}
"""Each kind, and how often it comes."""


async def hostile(url: str, drawn: random.Random) -> tuple[str, int]:
    """Sends one of them; its kind, and the status that it was told, 0 where it did not wait for any.

    Raises AssertionError where the server says what is neither an answer nor a typed error.
    """
    kind = drawn.choices(list(KINDS), [often for _, often in KINDS.values()])[0]
    async with wire(url) as client:
        return kind, await KINDS[kind][0](client, drawn)


async def _told(client: Wire) -> int:
    try:
        status, headers = await client.head()
    except (asyncio.IncompleteReadError, ConnectionError):
        return 0  # the end of one who had closed his side
    if status == 200:
        return status
    assert status in (400, 404, 405, 408, 413, 415, 429), f"{status} for what a client did"
    body = await client.reader.readexactly(int(headers["content-length"]))
    ErrorBody.model_validate_json(body)
    return status

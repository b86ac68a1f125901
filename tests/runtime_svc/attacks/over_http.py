"""What nobody should send over HTTP, each by itself on a connection of its own."""

from __future__ import annotations

import asyncio
import json
import random
import ssl
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any

from runtime_svc.http_front.errors import ErrorBody
from tests.proto.certificates import KEY, OTHER_KEY
from tests.runtime_svc.attacks.target import Target
from tests.runtime_svc.http_front.front import TOOLS, asking
from tests.runtime_svc.http_front.sockets import Wire, post, wire
from treni.passes import Pass

LARGE_BYTES = 64_000_000

MOMENT_S = 0.3
"""How long is listened for an answer to what need not have any."""

LEFT = "-"
"""Told to who did not wait for an answer."""

CLOSED = "closed"

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


WITH_KEY = f"authorization: Bearer {KEY}"


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


async def _fuzzed(client: Wire, drawn: random.Random) -> str:
    path = drawn.choice(["/v1/chat/completions", "/chat/completions", "/v1/embeddings"])
    body = (
        {"model": "treni-tiny", "input": ["a", "b"]} if "emb" in path else good(stream=drawn.random() < 0.3)
    )
    await client.send(
        post(json.dumps(mutated(drawn, body)).encode(), WITH_KEY, "connection: close", path=path)
    )
    return await _told(client)


async def _damaged(client: Wire, drawn: random.Random) -> str:
    body = bytearray(json.dumps(good()).encode())
    for _ in range(drawn.randint(1, 6)):
        at = drawn.randrange(len(body))
        body[at : at + drawn.randint(0, 3)] = drawn.randbytes(drawn.randint(0, 3))
    await client.send(post(bytes(body), WITH_KEY, "connection: close"))
    return await _told(client)


async def _noise(client: Wire, drawn: random.Random) -> str:
    await client.send(post(drawn.randbytes(drawn.randint(0, 3000)), WITH_KEY, "connection: close"))
    return await _told(client)


async def _garbage(client: Wire, drawn: random.Random) -> str:
    await client.send(drawn.choice(GARBAGE))
    if client.writer.can_write_eof():
        client.writer.write_eof()
        return await _told(client)
    with suppress(TimeoutError):  # what a server takes for a beginning it waits for the rest of
        async with asyncio.timeout(MOMENT_S):
            return await _told(client)
    return LEFT


async def _truncated(client: Wire, drawn: random.Random) -> str:
    data = post(good(stream=True), WITH_KEY)
    await client.send(data[: drawn.randrange(len(data))])
    await asyncio.sleep(drawn.random() * 0.02)
    return LEFT


async def _dribbled(client: Wire, drawn: random.Random) -> str:
    data = post(good(), WITH_KEY, "connection: close")
    for at in range(0, len(data), 97):
        await client.send(data[at : at + 97])
        await asyncio.sleep(0)
    return await _told(client)


async def _large(client: Wire, drawn: random.Random) -> str:
    piece = b" " * 1_000_000
    chunked = drawn.random() < 0.5
    await client.send(
        post(b"", WITH_KEY, "transfer-encoding: chunked" if chunked else f"content-length: {LARGE_BYTES}")
    )
    telling = asyncio.ensure_future(_told(client))
    with suppress(ConnectionError):
        for _ in range(LARGE_BYTES // len(piece)):
            await client.send(b"%x\r\n" % len(piece) + piece + b"\r\n" if chunked else piece)
    told = await telling
    assert told.startswith("413 "), f"who sends too much hears it, not {told}"
    return told


async def _slow_reader(client: Wire, drawn: random.Random) -> str:
    body = {"model": "treni-tiny", "input": ["word"] * 256, "encoding_format": "float"}
    await client.send(post(body, WITH_KEY, path="/v1/embeddings") * 3)
    await client.reader.read(10)
    await asyncio.sleep(drawn.random() * 0.3)
    return LEFT


async def _left(client: Wire, drawn: random.Random) -> str:
    await client.send(post(good(stream=True) | {"max_tokens": 200}, WITH_KEY))
    if drawn.random() < 0.7:
        await client.reader.read(drawn.randint(1, 600))
    return LEFT


async def _pipelined(client: Wire, drawn: random.Random) -> str:
    await client.send(post(good(), WITH_KEY) * 3 + post(b"{", WITH_KEY, "connection: close"))
    return await _told(client)


async def _without_key(client: Wire, drawn: random.Random) -> str:
    shown = drawn.choice(
        [
            [],
            [f"authorization: Bearer {OTHER_KEY}"],
            [f"authorization: Basic {KEY}"],
            ["authorization: Bearer " + "x" * 4000],
            [WITH_KEY, WITH_KEY],
        ]
    )
    await client.send(post(good(), *shown, "connection: close"))
    told = await _told(client)
    assert told == "401 invalid_api_key", f"who has no key was told {told}"
    return told


Attack = Callable[[Wire, random.Random], Awaitable[str]]

KINDS: Mapping[str, tuple[Attack, int]] = {
    "fuzzed": (_fuzzed, 40),
    "damaged": (_damaged, 12),
    "noise": (_noise, 8),
    "garbage": (_garbage, 10),
    "truncated": (_truncated, 10),
    "dribbled": (_dribbled, 4),
    "64 MB": (_large, 2),
    "slow reader": (_slow_reader, 1),
    "left": (_left, 10),
    "pipelined": (_pipelined, 3),
}
"""Each kind, and how often it comes."""

WITHOUT_KEY = ("wrong key", (_without_key, 10))
"""One more, where keys are asked for."""


async def attack(target: Target, kind: str, drawn: random.Random) -> str:
    """Sends one of that kind, with the key and the certificate; what it was told, `LEFT` where it waited for nothing.

    Raises AssertionError where the server says what is neither an answer nor a typed error.
    """
    made, _ = dict([*KINDS.items(), WITHOUT_KEY])[kind]
    async with wire(target.front.http, target.tls()) as client:
        return await made(client, drawn)


async def knock(target: Target, shown: Pass) -> str:
    """A good request by who is not let in; how the handshake ended."""
    try:
        async with wire(target.front.http, target.tls(shown)) as client:
            await client.send(post(good(), WITH_KEY, "connection: close"))
            status, _ = await client.head()
    except (ssl.SSLError, ConnectionError, asyncio.IncompleteReadError):
        return "no handshake"
    raise AssertionError(f"who should not be let in was told {status}")


async def _told(client: Wire) -> str:
    try:
        status, headers = await client.head()
    except (asyncio.IncompleteReadError, ConnectionError):
        return CLOSED  # the end of one who had closed his side
    if status == 200:
        return "200"
    assert status in (400, 401, 404, 405, 408, 413, 415, 429), f"{status} for what a client did"
    body = await client.reader.readexactly(int(headers["content-length"]))
    error = ErrorBody.model_validate_json(body).error
    return f"{status} {error.code}"

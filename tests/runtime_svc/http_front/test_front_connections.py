"""Connections as hostile or broken clients have them, and those who leave: on a real socket, over a real engine."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from runtime_svc.core import InferenceCore
from runtime_svc.http_front import app, connection, server
from runtime_svc.http_front.server import RunningFront
from tests.limits import HANG_S
from tests.runtime_svc.brake import Brake, nobody_asks
from tests.runtime_svc.http_front.front import asking
from tests.runtime_svc.http_front.sockets import post, wire
from treni.limits import CALLS_IN_FLIGHT, HTTP_CONNECTIONS
from treni.metrics import Page

SHORT = asking("x", max_tokens=1) | {"model": "small"}


async def answers(front: RunningFront) -> None:
    """The front answers a good client."""
    async with httpx.AsyncClient(timeout=HANG_S) as client:
        answer = await client.post(f"{front.address}/v1/chat/completions", json=SHORT)
        assert answer.status_code == 200


async def until(true: Callable[[], bool]) -> None:
    """Returns when it is true; the core tells nobody."""
    while not true():  # noqa: ASYNC110
        await asyncio.sleep(0)


@pytest.mark.parametrize("stream", [True, False])
async def test_who_leaves_frees_the_engine(
    here: RunningFront, long_body: dict[str, Any], core: InferenceCore, brake: Brake, stream: bool
) -> None:
    brake.hold(after=20)
    async with wire(here.address) as client:
        await client.send(post(long_body | {"stream": stream}))
        await brake.standing()
        if stream:
            assert (await client.head())[0] == 200
    await nobody_asks(core)
    steps = brake.launches
    brake.release()
    await answers(here)
    assert brake.launches == steps, "no step was made for nobody but the one that was being made"
    assert core.engine.scheduler.slots.in_use == 0


async def test_who_leaves_the_queue_is_never_begun(
    here: RunningFront, long_body: dict[str, Any], core: InferenceCore, brake: Brake
) -> None:
    brake.hold(after=5)
    async with wire(here.address) as first, wire(here.address) as second:
        await first.send(post(long_body))
        await brake.standing()
        await second.send(post(long_body))
        await until(lambda: core.engine.scheduler.queued == 1)
        second.writer.transport.abort()
        await until(lambda: core.engine.scheduler.queued == 0)
    await nobody_asks(core)
    brake.release()
    await answers(here)


async def test_a_client_that_closes_one_way_has_left(
    here: RunningFront, long_body: dict[str, Any], core: InferenceCore, brake: Brake
) -> None:
    brake.hold(after=5)
    async with wire(here.address) as client:
        await client.send(post(long_body))
        await brake.standing()
        client.writer.write_eof()
        await nobody_asks(core)
        brake.release()
    await answers(here)


async def test_a_body_over_the_limit_is_refused_before_it_is_sent(here: RunningFront) -> None:
    async with wire(here.address) as client:
        await client.send(post(b"", "content-length: 64000000", "expect: 100-continue"))
        status, body = await client.answer()
        assert (status, body["error"]["code"]) == (413, "request_too_large")
    await answers(here)


@pytest.mark.parametrize("chunked", [True, False])
async def test_who_sends_64_megabytes_hears_why_not(here: RunningFront, chunked: bool) -> None:
    size, piece = 64_000_000, b" " * 500_000
    async with wire(here.address) as client:
        sent = 0
        with_length = "transfer-encoding: chunked" if chunked else f"content-length: {size}"
        await client.send(post(b"", with_length))
        answer = asyncio.ensure_future(client.answer())
        with suppress(ConnectionError):
            for _ in range(size // len(piece)):
                await client.send(b"%x\r\n" % len(piece) + piece + b"\r\n" if chunked else piece)
                sent += len(piece)
        status, body = await answer
        assert (status, body["error"]["code"]) == (413, "request_too_large")
    assert sent < size, "it is not read to its end"
    await answers(here)


async def test_a_request_that_never_ends_is_told_so(
    here: RunningFront, long_body: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "REQUEST_S", 0.2)
    pieces = (
        b"",
        b"POST /v1/chat",
        post(b"{", "content-length: 20"),
        post(b"5\r\n{", "transfer-encoding: chunked"),
    )
    for begun in pieces:
        async with wire(here.address) as client:
            await client.send(begun)
            status, body = await client.answer()
            assert (status, body["error"]["code"]) == (408, "request_timeout")
            assert await client.rest() == b""
    # Neither is one that dribbles, nor the second on a connection.
    async with wire(here.address) as client:
        await client.send(post(SHORT))
        assert (await client.answer())[0] == 200
        answer = asyncio.ensure_future(client.answer())
        with suppress(ConnectionError):
            for byte in post(b" " * 5000):
                await client.send(bytes([byte]))
                await asyncio.sleep(0.002)
        assert (await answer)[0] == 408
    # An answer takes as long as it takes.
    async with wire(here.address) as client:
        await client.send(post(long_body | {"max_tokens": 300}))
        assert (await client.answer())[0] == 200


async def test_who_reads_nothing_is_cut_off(here: RunningFront, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "UNREAD_S", 0.2)
    loop = asyncio.get_running_loop()
    body = {"model": "small", "input": ["word"] * 256, "encoding_format": "float"}
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.setblocking(False)
        await loop.sock_connect(client, (urlsplit(here.address).hostname, urlsplit(here.address).port))
        cut = False
        while not cut:  # more answers than all buffers on the way hold
            try:
                async with asyncio.timeout(HANG_S):
                    await loop.sock_sendall(client, post(body, path="/v1/embeddings"))
            except ConnectionError:
                cut = True
    await answers(here)


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 60,  # TLS where there is none
        b"POST /v1/embeddings HTTP/1.1\r\nhost: a\r\ncontent-length: -1\r\n\r\n",
        b"POST /v1/embeddings HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\n" + b"x-filler: " + b"a" * 700_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 200_000,
        b"GET / HTTP/1.1\r\n\r\n",  # no host
        b"\x00" * 100 + b"\r\n\r\n",
    ],
)
async def test_what_is_no_http_is_refused_in_words(here: RunningFront, garbage: bytes) -> None:
    async with wire(here.address) as client:
        await client.send(garbage)
        status, body = await client.answer()
        assert (status, body["error"]["code"]) == (400, "http_malformed")
    await answers(here)


async def test_requests_in_a_row_on_one_connection(here: RunningFront) -> None:
    async with wire(here.address) as client:
        await client.send(post(SHORT) + post(b"{}") + post(SHORT), post(SHORT | {"stream": True}))
        assert [(await client.answer())[0] for _ in range(3)] == [200, 400, 200]
        assert (await client.head())[1]["content-type"].startswith("text/event-stream")
        assert b"data: [DONE]" in await client.reader.readuntil(b"0\r\n\r\n")


async def test_one_too_many_of_a_path_is_refused_and_health_is_not(
    here: RunningFront, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "CALLS_IN_FLIGHT", replace(CALLS_IN_FLIGHT, most=1))
    async with wire(here.address) as first, httpx.AsyncClient() as client:
        await first.send(post(b"{", "content-length: 20"))
        refused = None
        while refused is None:  # the first may not be there yet
            answer = await client.post(f"{here.address}/v1/chat/completions", json=SHORT)
            refused = answer if answer.status_code == 429 else None
        assert refused.json()["error"]["code"] == "too_many_calls"
        assert (await client.get(f"{here.address}/health")).status_code == 200
    await answers(here)


async def test_one_connection_too_many_is_refused(
    here: RunningFront, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "HTTP_CONNECTIONS", replace(HTTP_CONNECTIONS, most=2))
    async with wire(here.address) as first, wire(here.address) as second:
        for client in (first, second):
            await client.send(post(SHORT))
            assert (await client.answer())[0] == 200
        async with wire(here.address) as third:
            status, body = await third.answer()
            assert (status, body["error"]["code"]) == (429, "too_many_connections")
            assert await third.rest() == b""


async def test_stopping_lets_answers_end(core: InferenceCore, brake: Brake) -> None:
    front = await server.start(core, Page())
    brake.hold(after=3)
    async with wire(front.address) as client, wire(front.address) as idle:
        await client.send(post(SHORT | {"max_tokens": 30}))
        await brake.standing()
        stopping = asyncio.ensure_future(front.stop(grace_s=HANG_S))
        assert await idle.rest() == b"", "who asks for nothing is sent away"
        brake.release()
        assert (await client.answer())[0] == 200
        await stopping
    with pytest.raises(OSError, match="Connect"):
        async with wire(front.address):
            pass


async def test_no_part_of_an_answer_waits_for_an_acknowledgement(here: RunningFront) -> None:
    async with httpx.AsyncClient(timeout=HANG_S) as client:
        await client.get(f"{here.address}/health")
        (connected,) = here._server.server_state.connections
        taken = connected.transport.get_extra_info("socket")
        assert taken.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)

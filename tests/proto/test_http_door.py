"""The HTTP front's door: a bare ASGI application behind it, served by uvicorn."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from tests.limits import HANG_S
from tests.proto.certificates import KEY, OTHER_KEY, Authority, key_file
from treni.doors import OPEN, Door, ServerTls
from treni.http_door import Message, Receive, Send, locked, uvicorn_options
from treni.keys import Keys

HERE = "127.0.0.1"


class Front:
    """An application that says what it was asked, and counts it."""

    def __init__(self) -> None:
        self.started = False
        self.asked: list[str] = []
        self.headers: list[dict[str, str]] = []

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            assert (await receive())["type"] == "lifespan.startup"
            self.started = True
            await send({"type": "lifespan.startup.complete"})
            assert (await receive())["type"] == "lifespan.shutdown"
            await send({"type": "lifespan.shutdown.complete"})
            return
        self.asked.append(scope["path"])
        self.headers.append({name.decode(): value.decode() for name, value in scope["headers"]})
        size = 0
        while True:
            message = await receive()
            size += len(message.get("body", b""))
            if not message.get("more_body", False):
                break
        body = json.dumps({"path": scope["path"], "bytes": size}).encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x-front", b"1")]})
        await send({"type": "http.response.body", "body": body})


@asynccontextmanager
async def served(door: Door, front: Front) -> AsyncIterator[int]:
    """The application behind the door by uvicorn; its port."""
    config = uvicorn.Config(locked(front, door), port=0, log_level="warning", **uvicorn_options(door))
    server = uvicorn.Server(config)
    with socket.create_server((HERE, 0)) as listening:
        task = asyncio.create_task(server.serve(sockets=[listening]))
        while not server.started:
            assert not task.done(), task
            await asyncio.sleep(0.01)
        try:
            yield listening.getsockname()[1]
        finally:
            server.should_exit = True
            await asyncio.wait_for(task, HANG_S)


def client(port: int, verify: Any = True) -> httpx.AsyncClient:
    scheme = "http" if verify is True else "https"
    return httpx.AsyncClient(
        base_url=f"{scheme}://{HERE}:{port}", trust_env=False, verify=verify, timeout=HANG_S
    )


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


async def test_a_request_without_a_key_is_answered_as_openai_does_and_goes_no_further(tmp_path: Path) -> None:
    front, door = Front(), Door(keys=Keys(file=key_file(tmp_path, KEY, OTHER_KEY)))
    async with served(door, front) as port, client(port) as http:
        assert front.started
        for headers in (
            {},
            bearer("wrong-key-wrong-key"),
            {"Authorization": KEY},
            {"Authorization": f"Basic {KEY}"},
            {"Authorization": ""},
            [("Authorization", f"Bearer {KEY}"), ("authorization", f"Bearer {KEY}")],
        ):
            answer = await http.post("/v1/chat/completions", headers=headers, content=b"x" * 100_000)
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"] == "Bearer"
            error = answer.json()["error"]
            assert set(error) == {"message", "type", "param", "code", "treni"}
            assert error["treni"]["definite"]
            assert (error["type"], error["code"]) == ("invalid_request_error", "invalid_api_key")
            assert KEY not in answer.text
            assert "wrong-key" not in answer.text
        assert front.asked == []
        for key in (KEY, OTHER_KEY):
            answer = await http.post("/v1/models", headers=bearer(key), content=b"12345")
            assert answer.json() == {"path": "/v1/models", "bytes": 5}
        assert all("authorization" not in headers for headers in front.headers)
        assert (await http.get("/health")).status_code == 200
        assert (await http.get("/ready")).status_code == 200
        for path in (
            "/metrics",
            "/Health",
            "/health/",
            "/v1/health",
            "//health",
            "/%68ealth/x",
        ):
            assert (await http.get(path)).status_code == 401, path


async def test_without_keys_nothing_is_in_between() -> None:
    front = Front()
    assert locked(front, OPEN) is front
    assert uvicorn_options(OPEN) == {}


async def test_a_websocket_needs_a_key_too() -> None:
    said: list[Message] = []

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        said.append(message)

    class Never:
        async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
            raise AssertionError("let in")

    keys = Keys.__new__(Keys)
    app = locked(Never(), Door(keys=keys))
    await app({"type": "websocket", "path": "/v1/realtime", "headers": []}, receive, send)
    assert said == [{"type": "websocket.close", "code": 1008}]


async def test_tls_and_clients_certificates(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    pair, mine = authority.issue(HERE), authority.issue("client")
    keys = Keys(file=key_file(tmp_path, KEY))
    believed = ssl.create_default_context(cafile=str(authority.ca))
    front = Front()
    tls = ServerTls(certificate=pair.certificate, key=pair.key)
    async with served(Door(keys=keys, tls=tls), front) as port, client(port, believed) as http:
        assert (await http.get("/v1/models", headers=bearer(KEY))).status_code == 200
        assert (await http.get("/v1/models")).status_code == 401
        async with client(port) as plain:
            with pytest.raises(httpx.TransportError):
                await plain.get("/health")
    mutual = Door(
        keys=keys, tls=ServerTls(certificate=pair.certificate, key=pair.key, client_ca=authority.ca)
    )
    async with served(mutual, Front()) as port:
        async with client(port, believed) as http:
            with pytest.raises(httpx.TransportError):
                await http.get("/health")
        known = ssl.create_default_context(cafile=str(authority.ca))
        known.load_cert_chain(mine.certificate, mine.key)
        async with client(port, known) as http:
            assert (await http.get("/v1/models", headers=bearer(KEY))).status_code == 200

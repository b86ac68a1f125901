"""The same door for HTTP: an ASGI application that asks for a key, and what uvicorn needs to serve it by TLS."""

from __future__ import annotations

import hashlib
import json
import ssl
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from typing import Any, TypeAlias

from treni.doors import AUTHORIZATION, Door, unauthenticated
from treni.keys import SCHEME, Keys

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Message, Receive, Send], Awaitable[None]]

OPEN_PATHS = frozenset({"/health", "/ready"})
"""What anybody may ask who reaches the server: what looks after processes has no key."""

CALLER = "treni.caller"
"""The name in an application's scope of who calls: a digest of the key that was shown."""

_POLICY_VIOLATION = 1008
"""The code of a WebSocket that is closed for what it is (RFC 6455, section 7.4.1)."""


class LockedApp:
    """An ASGI application (of HTTP and WebSocket) in front of another, which calls with a key reach.

    A request without one is answered 401 in OpenAI's shape, its body unread. `open_paths` ask for none.
    """

    def __init__(self, app: App, keys: Keys, *, open_paths: Collection[str] = OPEN_PATHS) -> None:
        self._app = app
        self._keys = keys
        self._open_paths = open_paths

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Hands on what may pass, and answers the rest."""
        if scope["type"] == "lifespan" or scope.get("path") in self._open_paths:
            await self._app(scope, receive, send)
            return
        given = [
            value.decode("latin-1")
            for name, value in scope.get("headers", ())
            if name.lower() == AUTHORIZATION.encode()
        ]
        if len(given) == 1 and self._keys.admit(given[0]):
            # Whoever logs requests behind this door has nothing to keep secret.
            headers = [pair for pair in scope["headers"] if pair[0].lower() != AUTHORIZATION.encode()]
            caller = hashlib.sha256(given[0].encode()).hexdigest()
            await self._app({**scope, "headers": headers, CALLER: caller}, receive, send)
        elif scope["type"] == "http":
            await _refuse(given, send)
        else:
            await receive()
            await send({"type": "websocket.close", "code": _POLICY_VIOLATION})


def locked(app: App, door: Door) -> App:
    """The application behind the door: itself where that asks for no key."""
    return app if door.keys is None else LockedApp(app, door.keys)


def uvicorn_options(door: Door) -> dict[str, Any]:
    """The options of `uvicorn.Config` that serve by the door's TLS; none for a door in plain."""
    if door.tls is None:
        return {}
    options: dict[str, Any] = {
        "ssl_certfile": str(door.tls.certificate),
        "ssl_keyfile": str(door.tls.key),
    }
    if door.tls.client_ca is not None:
        options |= {"ssl_ca_certs": str(door.tls.client_ca), "ssl_cert_reqs": int(ssl.CERT_REQUIRED)}
    return options


async def _refuse(given: list[str], send: Send) -> None:
    error = unauthenticated(given)
    told = {
        "message": str(error),
        "type": "invalid_request_error",
        "param": None,
        "code": "invalid_api_key",
        "treni": {"kind": error.kind, "definite": error.definite},
    }
    body = json.dumps({"error": told}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"www-authenticate", SCHEME.encode()),
        # What was not read of the body must not be taken for the next request.
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": 401, "headers": headers})
    await send({"type": "http.response.body", "body": body})

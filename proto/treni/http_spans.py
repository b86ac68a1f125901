"""Spans of requests over HTTP, for the front that speaks as OpenAI does."""

from __future__ import annotations

from typing import Any

from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from treni.spans import CHAT, OPERATION
from treni.tracing import Tracer, Value, Working, tracer

_OPERATIONS = {"/chat/completions": CHAT, "/embeddings": "embeddings"}
"""The paths of which each request has a span, with or without /v1 before them."""


class TracedApp:
    """Gives each request to a model a span, within its caller's if its headers say so in W3C's terms."""

    def __init__(self, app: ASGIApp, tracer: Tracer) -> None:
        self._app = app
        self._tracer = tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on, its span the current one."""
        route = scope.get("path", "").removeprefix("/v1")
        if scope["type"] != "http" or route not in _OPERATIONS:
            await self._app(scope, receive, send)
            return
        attributes: dict[str, Value] = {
            OPERATION: _OPERATIONS[route],
            "http.request.method": scope["method"] if scope["method"] in _METHODS else "_OTHER",
            "http.route": route,
        }
        name = f"{attributes['http.request.method']} {route}"
        span = self._tracer.receive(name, attributes, _text(scope["headers"]))

        async def told(message: Message) -> None:
            if message["type"] == "http.response.start":
                span.set({"http.response.status_code": message["status"]})
            await send(message)

        with Working(self._tracer, span):
            await self._app(scope, receive, told)


_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


def http_spans() -> list[Middleware]:
    """What stands before the application of this process; nothing where nobody traces."""
    by = tracer()
    return [] if by is None else [Middleware(TracedApp, tracer=by)]


def _text(headers: Any) -> list[tuple[str, str]]:
    return [(key.decode("latin-1").lower(), value.decode("latin-1")) for key, value in headers]

"""A client's connection with limits in time: no request that never ends, and no answer that nobody reads."""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from runtime_svc.http_front import errors
from treni.errors import Code, TreniError
from treni.limits import HTTP_CONNECTIONS

REQUEST_S = 30.0
"""How long a request may take to arrive: from its connection's beginning, or its first byte, to its last."""

UNREAD_S = 30.0
"""How long an answer may wait because its reader takes nothing of it."""

HEAD_BYTES = 32 * 1024
"""The most that is kept of a request's line and headers, or of a chunk's head, while it is not complete."""


class Connection(H11Protocol):
    """Uvicorn's connection, with clocks, and with refusals in the project's words.

    h11 and not httptools reads the requests: it bounds what a head may take, and refuses what is ambiguous.
    """

    _asking: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begins the clock of the first request; one connection too many is told so and closed."""
        super().connection_made(transport)
        if len(self.connections) > HTTP_CONNECTIONS.most:
            self._refuse(HTTP_CONNECTIONS.exceeded("one more"))
            return
        self._asking = self.loop.call_later(REQUEST_S, self._too_slow)

    def data_received(self, data: bytes) -> None:
        """Reads on; what is left of a request has until its clock runs out."""
        if self.transport.is_closing():
            return
        super().data_received(data)
        self._watch_request()

    def on_response_complete(self) -> None:
        """Goes on to the next request, whose clock begins where some of it is there already."""
        super().on_response_complete()
        self._watch_request()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stops all clocks."""
        self._stop_asking()
        self._stop_unread()
        self._unset_keepalive_if_required()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Begins the clock of a reader that takes nothing."""
        super().pause_writing()
        self._stop_unread()
        self._unread = self.loop.call_later(UNREAD_S, self.transport.abort)

    def resume_writing(self) -> None:
        """Stops that clock: the reader has taken most of what waited."""
        super().resume_writing()
        self._stop_unread()

    def send_400_response(self, msg: str) -> None:
        """Refuses what is no HTTP."""
        self._refuse(
            TreniError(
                Code.INVALID_ARGUMENT,
                "http_malformed",
                expected=f"a request of HTTP/1.1, with a head of at most {HEAD_BYTES} bytes",
                got="something else",
                todo="correct the client",
            )
        )

    def _watch_request(self) -> None:
        """The clock runs while a request has begun and is not complete."""
        begun = self.conn.trailing_data[0] != b"" if self.conn.their_state is h11.IDLE else False
        if begun or self.conn.their_state is h11.SEND_BODY:
            if self._asking is None:
                self._asking = self.loop.call_later(REQUEST_S, self._too_slow)
        else:
            self._stop_asking()

    def _too_slow(self) -> None:
        self._asking = None
        self._refuse(
            TreniError(
                Code.DEADLINE_EXCEEDED,
                "request_timeout",
                expected=f"a whole request within {REQUEST_S:g} s",
                got="less",
                todo="send it at once",
                definite=True,
            )
        )

    def _refuse(self, error: TreniError) -> None:
        """Says the error without looking at the request, and closes."""
        if self.transport.is_closing():
            return
        body = errors.body_of(error)
        head = [
            ("content-type", "application/json"),
            ("content-length", f"{len(body)}"),
            ("connection", "close"),
            *errors.headers_of(error).items(),
        ]
        events: tuple[Any, ...] = (
            h11.Response(status_code=errors.status_of(error), headers=head),
            h11.Data(data=body),
            h11.EndOfMessage(),
        )
        try:
            for event in events:
                self.transport.write(self.conn.send(event) or b"")
        except h11.LocalProtocolError:  # an answer has begun, or the connection is over
            self.transport.abort()
        self.transport.close()
        if self.cycle is not None:  # who is about to answer has nobody to answer to any more
            self.cycle.disconnected = True
            self.cycle.message_event.set()

    def _stop_asking(self) -> None:
        if self._asking is not None:
            self._asking.cancel()
            self._asking = None

    def _stop_unread(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

"""A request and its answer on one connection: a bounded body in, an answer out, an end when the client leaves."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Coroutine, Mapping
from contextlib import suppress
from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from runtime_svc.http_front import errors
from treni.errors import Code, TreniError
from treni.limits import HTTP_REQUEST

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)

LINGER_S = 1.0
"""How long a connection stays open, unread, after a body was refused: closing it on a client that still sends resets
it, and a client that has not read by then why it was refused may never do so."""


class ClientGone(Exception):
    """Nobody waits for the answer any longer."""


class Endpoint(ABC):
    """An ASGI application that reads a body and answers, and ends without a word where the client has gone.

    `content` is the parameter of its body under which the texts come.
    """

    content: ClassVar[str]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request. Raises `TreniError` as long as no answer has begun."""
        with suppress(ClientGone):
            try:
                await self.answer(scope, receive, send)
            except TreniError as error:
                raise errors.located(error, self.content) from None

    @abstractmethod
    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request; may raise `ClientGone` too."""


async def read(scope: Scope, receive: Receive, model: type[M]) -> M:
    """The request's body as a `model`. Raises `TreniError` for what is too large, no JSON, or wrong in any field."""
    headers = {key: value.decode("latin-1") for key, value in scope["headers"]}
    _check_media(headers)
    declared = headers.get(b"content-length", "")
    if declared.isdigit():
        HTTP_REQUEST.check(int(declared))
    body = bytearray()
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        body += message.get("body", b"")
        HTTP_REQUEST.check(len(body))
        more = message.get("more_body", False)
    try:
        return model.model_validate_json(bytes(body))
    except ValidationError as error:
        raise errors.of_validation(error, bytes(body)) from None


async def while_connected(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """What `work` comes to. It is cancelled at once when the client leaves, and `ClientGone` raised.

    To be called when the body has been read: what comes after it can only be the client's leaving.
    """
    working = asyncio.ensure_future(work)
    tasks = (working, asyncio.ensure_future(_gone(receive)))
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientGone
        return working.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class JsonResponse(Response):
    """A model as JSON, without the fields that were left unset."""

    media_type = "application/json"

    def render(self, content: BaseModel) -> bytes:
        """The bytes of the body."""
        return content.model_dump_json(exclude_unset=True).encode()


class ErrorResponse(Response):
    """An error in OpenAI's shape; after one that leaves a body unread the connection is closed, gently."""

    media_type = "application/json"

    def __init__(self, error: TreniError, headers: Mapping[str, str] | None = None) -> None:
        self._unread = error.kind == HTTP_REQUEST.kind
        more = {"connection": "close"} if self._unread else {}
        super().__init__(
            errors.body_of(error),
            status_code=errors.status_of(error),
            headers={**errors.headers_of(error), **more, **(headers or {})},
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends the error, and waits for a moment where the client may still be sending."""
        if not self._unread:
            await super().__call__(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        await asyncio.sleep(LINGER_S)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _check_media(headers: Mapping[bytes, str]) -> None:
    """Raises where the body is not JSON by its own account: a page in a browser may send other types anywhere."""
    media = headers.get(b"content-type", "none").partition(";")[0].strip().lower()
    coding = headers.get(b"content-encoding", "identity")
    if media != "application/json" or coding != "identity":
        raise TreniError(
            Code.INVALID_ARGUMENT,
            "media_type_unsupported",
            expected="content-type: application/json, and no content-encoding",
            got=media if coding == "identity" else coding,
            todo="send JSON as it is",
        )

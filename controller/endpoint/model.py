"""The model port over an OpenAI-compatible endpoint: one HTTP request an attempt, never repeated here."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

import httpx

from controller.endpoint import failures
from controller.endpoint.chat import Completion, body_of
from controller.endpoint.lines import events, whole
from controller.ports import MODEL_HOP, Call
from treni import metadata
from treni.channels import open_http
from treni.errors import TreniError
from treni.v1 import inference_pb2

KEEPALIVE_S = 60.0

Dial = Callable[[Call], "str | None"]
"""The "host:port" to connect to for an attempt, None for the endpoint's own; asked once, as the attempt begins."""


def straight(call: Call) -> None:
    """No other address: the way to an endpoint that lies behind no proxy of ours."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Endpoint:
    """An OpenAI-compatible endpoint and what it is asked with: its base URL, the model's name, the key ("" for none).

    `parameters` are put into each request's body, `omit` are keys that this endpoint does not take.
    """

    url: str
    model: str
    key: str = field(default="", repr=False)
    parameters: Mapping[str, Any] = field(default_factory=dict)
    omit: Collection[str] = ()

    @property
    def headers(self) -> dict[str, str]:
        """The headers of a request."""
        always = {"Accept-Encoding": "identity", "User-Agent": "treni-route"}
        return always | ({"Authorization": f"Bearer {self.key}"} if self.key else {})

    def without_key(self, text: str) -> str:
        """The text as anybody may read it: a server may quote the key that it was sent."""
        return text.replace(self.key, "[key]") if self.key else text


class EndpointModel:
    """A ModelPort over an endpoint; `dial` chooses the connection of each attempt. Use `open_endpoint`."""

    def __init__(self, endpoint: Endpoint, client: httpx.AsyncClient, dial: Dial = straight) -> None:
        self._endpoint = endpoint
        self._client = client
        self._dial = dial
        self._url = httpx.URL(endpoint.url.rstrip("/") + "/chat/completions")

    async def generate(
        self, request: inference_pb2.GenerateRequest, call: Call
    ) -> AsyncGenerator[inference_pb2.GenerateChunk, None]:
        """Streams a completion; closing it closes the connection, by which the endpoint may notice."""
        endpoint = self._endpoint
        body = body_of(request, model=endpoint.model, parameters=endpoint.parameters, omit=endpoint.omit)
        completion = Completion(model=endpoint.model, turn=call.key.call_index)
        call.observed.connection = "faulted" if metadata.FAULT in call.metadata else "reused"
        try:
            async with aclosing(self._texts(self._request(body, call), call, completion)) as texts:
                async for text in texts:
                    if text:
                        yield inference_pb2.GenerateChunk(text=text)
            yield inference_pb2.GenerateChunk(finish=completion.finish())
        except TreniError as error:
            for words in ("expected", "got", "todo"):
                setattr(error, words, endpoint.without_key(getattr(error, words)))
            error.args = (f"expected {error.expected}; got {error.got}; {error.todo}",)
            raise

    def _request(self, body: dict[str, Any], call: Call) -> httpx.Request:
        async def trace(event: str, info: Mapping[str, Any]) -> None:
            if event == "connection.connect_tcp.started" and call.observed.connection == "reused":
                call.observed.connection = "new"

        url, address = self._url, self._dial(call)
        if address is not None:
            host, _, port = address.rpartition(":")
            url = url.copy_with(host=host, port=int(port))
        return self._client.build_request(
            "POST",
            url,
            json=body,
            # The endpoint's own name, wherever the connection goes.
            headers={**self._endpoint.headers, "Host": self._url.netloc.decode()},
            extensions={"trace": trace},
        )

    async def _texts(
        self, request: httpx.Request, call: Call, completion: Completion
    ) -> AsyncGenerator[str, None]:
        """Each text as it comes, fed into the completion; returns once that is whole."""
        async with _in_time(call):
            response = await self._client.send(request, stream=True)
        try:
            if response.status_code != httpx.codes.OK:
                async with _in_time(call):
                    said = failures.said_in(await whole(response, hop=MODEL_HOP))
                raise failures.of_status(
                    response.status_code,
                    hop=MODEL_HOP,
                    said=said,
                    retry_after=response.headers.get("retry-after", ""),
                )
            if response.headers.get("content-type", "").partition(";")[0].strip() != "text/event-stream":
                async with _in_time(call):
                    data = await whole(response, hop=MODEL_HOP)
                yield completion.feed(data)
            else:
                done = False
                async with aclosing(events(response, hop=MODEL_HOP)) as every:
                    while True:
                        async with _in_time(call):
                            event = await anext(every, None)
                        if event is None:
                            break
                        # What follows the mark is read and not heeded: a connection is used again only at its end.
                        done = done or event.strip() == b"[DONE]"
                        if not done:
                            yield completion.feed(event)
            if not completion.reason:
                raise failures.cut(hop=MODEL_HOP)
        finally:
            await response.aclose()


@contextlib.asynccontextmanager
async def _in_time(call: Call) -> AsyncIterator[None]:
    """The block, ended at the attempt's deadline, what HTTP failed with in our words."""
    try:
        async with asyncio.timeout(call.deadline.remaining_s()):
            yield
    except TimeoutError:
        raise failures.timed_out(hop=MODEL_HOP) from None
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise failures.of_failure(error, hop=MODEL_HOP) from None


@contextlib.asynccontextmanager
async def open_endpoint(
    endpoint: Endpoint, dial: Dial = straight, *, proxied: bool = False
) -> AsyncIterator[EndpointModel]:
    """The endpoint as a model, its connections closed when the block is left.

    `proxied`: attempts go to addresses that `dial` gives, past any HTTP proxy that the environment names.
    """
    async with open_http(
        by_environment=not proxied,
        timeout=None,  # each attempt has a deadline of its own
        follow_redirects=False,
        limits=httpx.Limits(
            max_connections=None, max_keepalive_connections=None, keepalive_expiry=KEEPALIVE_S
        ),
    ) as client:
        yield EndpointModel(endpoint, client, dial)

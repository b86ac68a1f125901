"""An agent of the user's own behind a URL: a POST a task, answered by JSON, or by lines of JSON as things happen."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

import httpx

from controller.deadline import Deadline
from controller.endpoint import failures
from controller.endpoint.lines import lines, whole
from controller.own_agent.wire import Given, Said, read_said
from controller.ports import AGENT_HOP
from treni.errors import TreniError

LINES = "application/x-ndjson"


class AgentAtUrl:
    """The agent at `url`, asked with `key` as a bearer where there is one. Does not own the client."""

    def __init__(self, client: httpx.AsyncClient, *, url: str, key: str) -> None:
        self._client = client
        self._url = url
        self._key = key

    async def run(self, given: Given) -> AsyncGenerator[Said, None]:
        """Posts the task; see `OwnAgent.run`."""
        headers = {"Accept": f"{LINES}, application/json", "Accept-Encoding": "identity"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        request = self._client.build_request("POST", self._url, json=given.data, headers=headers)
        try:
            async with aclosing(self._said(request, given.deadline)) as things:
                async for said in things:
                    yield said
        except TreniError as error:
            if self._key:
                error.got = error.got.replace(self._key, "[key]")
                error.args = (f"expected {error.expected}; got {error.got}; {error.todo}",)
            raise

    async def _said(self, request: httpx.Request, deadline: Deadline) -> AsyncGenerator[Said, None]:
        async with _in_time(deadline):
            response = await self._client.send(request, stream=True)
        try:
            if response.status_code != httpx.codes.OK:
                async with _in_time(deadline):
                    text = failures.said_in(await whole(response, hop=AGENT_HOP))
                raise failures.of_status(response.status_code, hop=AGENT_HOP, said=text)
            if response.headers.get("content-type", "").partition(";")[0].strip() != LINES:
                async with _in_time(deadline):
                    body = await whole(response, hop=AGENT_HOP)
                yield read_said(body)
                return
            async with aclosing(lines(response, hop=AGENT_HOP)) as every:
                while True:
                    async with _in_time(deadline):
                        line = await anext(every, None)
                    if line is None:
                        return
                    if line.strip():
                        yield read_said(line)
        finally:
            await response.aclose()


@contextlib.asynccontextmanager
async def _in_time(deadline: Deadline) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(deadline.remaining_s()):
            yield
    except TimeoutError:
        raise failures.timed_out(hop=AGENT_HOP) from None
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise failures.of_failure(error, hop=AGENT_HOP) from None

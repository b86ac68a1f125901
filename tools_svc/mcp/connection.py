"""One MCP server as threads see it: connected when a call needs it, and again after it died, in a loop of its own."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import mcp_types as types
import pydantic
from mcp import Client
from mcp.client.session import ClientSession
from mcp.shared.exceptions import MCPError

from tools_svc.mcp import translate
from tools_svc.mcp.limits import CALL_S, MAX_STARTS, MAX_TOOLS, OPEN_S, PING_S, STARTS_WITHIN_S
from tools_svc.suggest import clip
from treni import entry
from treni.errors import Code, TreniError

T = TypeVar("T")

Transport = Callable[[Callable[..., None]], AbstractAsyncContextManager[Any]]
"""Opens the streams to the server, and is told who is to hear why they ended."""

_ANSWER: pydantic.TypeAdapter[types.CallToolResult | types.InputRequiredResult] = pydantic.TypeAdapter(
    types.CallToolResult | types.InputRequiredResult
)

MAX_PAGES = 100

_log = logging.getLogger(__name__)
logging.getLogger("mcp").setLevel(
    logging.CRITICAL
)  # what it would log with a traceback is raised here in words


@dataclass(kw_only=True, slots=True)
class _Ended:
    """Whether a connection ended, and why, as far as its transport says so: the first word stands.

    `unsent`: what was to be sent last certainly was not.
    """

    why: str = ""
    unsent: bool = False
    event: asyncio.Event = field(default_factory=asyncio.Event)

    def __call__(self, why: str, *, unsent: bool = False) -> None:
        if not self:
            self.why, self.unsent = why, unsent
        self.event.set()

    def __bool__(self) -> bool:
        return self.event.is_set()


@dataclass(kw_only=True, slots=True)
class _Live:
    """A connection that stands until it has `ended`; `stale` once the server said that its tools changed.

    `in_flight` counts the calls that somebody waits for, `doubt` asks whether the server still answers.
    """

    session: ClientSession
    server: str
    tools: dict[str, types.Tool]
    ended: _Ended
    stale: bool = False
    in_flight: int = 0
    doubt: asyncio.Task[None] | None = None


class Connection:
    """An MCP server behind `transport`, called `title` in errors. Its methods are for any thread.

    `probe` asks it first for a protocol without a handshake. Servers of before 2026 answer that with an error and a
    page in their log; no server does without the handshake on stdio yet.
    """

    def __init__(self, title: str, transport: Transport, *, probe: bool) -> None:
        self._title = title
        self._transport = transport
        self._mode: Literal["auto", "legacy"] = "auto" if probe else "legacy"
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="mcp", daemon=True)
        self._live: _Live | None = None
        self._opening: asyncio.Task[_Live] | None = None
        self._holder: asyncio.Task[None] | None = None
        self._starts: deque[float] = deque(maxlen=MAX_STARTS)
        self._known: dict[str, str] | None = None
        self._thread.start()

    def open(self) -> tuple[str, tuple[types.Tool, ...]]:
        """What the server calls itself ("" for nothing), and its tools. Raises `TreniError` for a server that fails."""
        live = asyncio.run_coroutine_threadsafe(self._connected(), self._loop).result()
        return live.server, tuple(live.tools.values())

    def call(
        self, name: str, arguments: dict[str, Any], read: Callable[[types.CallToolResult], T]
    ) -> Future[T]:
        """What `read` makes of a tool's answer to arguments, within `CALL_S`; cancelling it tells the server.

        The future raises `TreniError`, definite where the call was never sent, and what `read` raises.
        """

        async def called() -> T:
            return read(await self._call(name, arguments))

        return asyncio.run_coroutine_threadsafe(called(), self._loop)

    def close(self) -> None:
        """Ends the server's process, or the session at its URL, and whatever is in flight; once."""
        if self._loop.is_closed():
            return
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    async def _close(self) -> None:
        await self._drop()
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._loop.shutdown_asyncgens()

    async def _drop(self) -> None:
        """Ends the connection that stands, or stood."""
        holder, self._holder = self._holder, None
        if self._live is not None:
            self._live.ended("the end of its host")
            self._live = None
        if holder is not None:
            await asyncio.wait({holder})

    async def _connected(self) -> _Live:
        """The connection, made where none stands. Raises UNAVAILABLE, definite: nothing was asked of the server yet."""
        if self._live is not None and not self._live.ended:
            return self._live
        if self._opening is None or self._opening.done():
            # Whoever needs it may not wait for long enough, and the next one is glad of it.
            self._opening = asyncio.create_task(self._opened())
            self._opening.add_done_callback(lambda done: None if done.cancelled() else done.exception())
        return await asyncio.shield(self._opening)

    async def _opened(self) -> _Live:
        await self._drop()
        self._refuse_often()
        ready: asyncio.Future[_Live] = self._loop.create_future()
        self._holder = asyncio.create_task(self._hold(ready))
        done, _ = await asyncio.wait({ready}, timeout=OPEN_S)
        if not done:
            ready.cancel()
            self._holder.cancel()
            raise self._not_opened(f"nothing for {OPEN_S:g} s")
        self._live = ready.result()
        return self._live

    def _refuse_often(self) -> None:
        now_s = time.monotonic()
        if len(self._starts) == MAX_STARTS and now_s - self._starts[0] < STARTS_WITHIN_S:
            raise TreniError(
                Code.UNAVAILABLE,
                "mcp_server_dying",
                expected=f"{self._title} to last: at most {MAX_STARTS} starts in {STARTS_WITHIN_S:.0f} s",
                got="one more",
                todo="see the server's own log",
                definite=True,
            )
        self._starts.append(now_s)

    async def _hold(self, ready: asyncio.Future[_Live]) -> None:
        """Keeps a connection from beginning to end: what is entered in one task has to be left in it."""
        ended = _Ended()
        info = types.Implementation(name="treni-route", version="1")

        async def heard(message: object) -> None:
            if isinstance(message, types.ToolListChangedNotification) and self._live is not None:
                self._live.stale = True

        try:
            client = Client(
                self._transport(ended),
                mode=self._mode,
                cache=None,
                client_info=info,
                message_handler=heard,
            )
            async with client:
                tools = await self._listed(client.session)
                if self._known is None:
                    self._known = {name: translate.digest_of(tool) for name, tool in tools.items()}
                who = client.server_info
                ready.set_result(
                    _Live(
                        session=client.session,
                        server="" if who is None else who.name,
                        tools=tools,
                        ended=ended,
                    )
                )
                await ended.event.wait()
        except (
            BaseException
        ) as error:  # a cancellation too: by the SDK's own groups, or because it took too long
            ended(_words(error))
            if not ready.done():
                ready.set_exception(self._not_opened(ended.why))
        finally:
            ended("the end of its connection")

    async def _listed(self, session: ClientSession) -> dict[str, types.Tool]:
        """Every tool of the server by name. Raises INVALID_ARGUMENT for more than are taken."""
        tools: dict[str, types.Tool] = {}
        cursor: str | None = None
        for _ in range(MAX_PAGES):
            page = await session.list_tools(params=types.PaginatedRequestParams(cursor=cursor))
            tools |= {tool.name: tool for tool in page.tools}
            cursor = page.next_cursor
            if cursor is None and len(tools) <= MAX_TOOLS:
                return tools
            if len(tools) > MAX_TOOLS:
                break
        raise ValueError(f"over {MAX_TOOLS} tools, or over {MAX_PAGES} pages of them")

    async def _call(self, name: str, arguments: dict[str, Any]) -> types.CallToolResult:
        live = await self._connected()
        await self._refuse_changed(live, name)
        params = types.CallToolRequestParams(name=name, arguments=arguments)
        live.in_flight += 1
        try:
            async with asyncio.timeout(CALL_S):
                answer = await live.session.send_request(types.CallToolRequest(params=params), _ANSWER)
        except TimeoutError:
            self._doubt(live)
            raise translate.late(name, CALL_S) from None
        except asyncio.CancelledError:
            self._doubt(live)
            raise
        except MCPError as error:
            if error.message in _GONE:
                live.ended(error.message, unsent=error.message == _GONE[1])
            if live.ended:
                # Of several calls nobody knows which one it was that could not be sent.
                unsent = live.ended.unsent and live.in_flight == 1
                raise translate.lost(name, live.ended.why, definite=unsent) from None
            raise translate.error_of(name, error.error) from None
        except (ValueError, RuntimeError) as error:
            raise translate.malformed(name, _words(error)) from None
        except Exception as error:  # anyio's, of streams that broke under the call
            live.ended(_words(error))
            raise translate.lost(name, live.ended.why) from None
        finally:
            live.in_flight -= 1
        if isinstance(answer, types.InputRequiredResult):
            raise translate.malformed(name, "a question to the user, who is not here")
        return answer

    def _doubt(self, live: _Live) -> None:
        """Finds out whether the server of a call that was given up still answers, unless that is asked already."""
        if live.doubt is None or live.doubt.done():
            live.doubt = asyncio.create_task(self._ping(live))

    async def _ping(self, live: _Live) -> None:
        try:
            async with asyncio.timeout(PING_S):
                await live.session.send_request(types.PingRequest(), types.EmptyResult)
        except TimeoutError:
            if live.in_flight == 0:  # it may be busy with that one, and whoever waits for it asks again
                live.ended(f"no answer to a ping within {PING_S:g} s")
        except Exception as error:
            _log.debug("a ping failed, which is an answer too", extra={"why": _words(error)})

    async def _refuse_changed(self, live: _Live, name: str) -> None:
        """Lists the tools again where the server says that they changed; raises FAILED_PRECONDITION if this one did."""
        if live.stale:
            live.stale = False
            try:
                async with asyncio.timeout(OPEN_S):
                    live.tools = await self._listed(live.session)
            except Exception as error:
                live.stale = True
                raise translate.changed(name, f"no listing any more: {_words(error)}") from None
        tool, known = live.tools.get(name), self._known or {}
        if tool is None:
            raise translate.changed(name, "gone")
        if translate.digest_of(tool) != known.get(name):
            raise translate.changed(name, "another description or schema")

    def _not_opened(self, why: str) -> TreniError:
        return TreniError(
            Code.UNAVAILABLE,
            "mcp_not_opened",
            expected=f"{self._title} to speak MCP and to list its tools",
            got=clip(why),
            todo="see what it says when it is started by hand",
            definite=True,
        )


_GONE = ("Connection closed", "Session terminated")
"""What the SDK says where the streams have ended, and where a URL does not know the session any more."""


def _words(error: BaseException) -> str:
    """The first cause among what a group of tasks raised."""
    cause = entry.cause(error)
    if isinstance(cause, pydantic.ValidationError):
        first = cause.errors(include_url=False, include_input=False)[0]
        return clip(f"{'.'.join(map(str, first['loc']))}: {first['msg']}")
    if isinstance(cause, MCPError | ValueError):
        return clip(str(cause))
    return clip(f"{type(cause).__name__}: {cause}")

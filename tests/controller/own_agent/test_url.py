"""Agents behind a URL, each a real HTTP server of the worst manners, behind a real AgentService."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from controller.own_agent.opening import open_agent
from controller.own_agent.servicer import OwnAgentServicer
from controller.policy import Policy
from controller.server import start
from matrices.running.client import AgentClient, Invocation
from tests.limits import HANG_S
from treni.errors import Code
from treni.v1 import agent_pb2

KEY = "the-key-of-the-tests"


@asynccontextmanager
async def answering(raw: bytes, tmp_path: Path) -> AsyncIterator[tuple[AgentClient, list[str]]]:
    """A client of an agent whose server answers every request with these bytes, and what it was sent."""
    asked: list[str] = []

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = int(head.lower().split("content-length:")[1].split("\r\n")[0])
        asked.append(head + (await reader.readexactly(length)).decode())
        writer.write(raw)
        if raw:
            writer.close()
        else:
            await asyncio.sleep(HANG_S)

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/task"
    async with open_agent(url=url, key=KEY, command=(), folder="", log_path=tmp_path / "agent.log") as own:
        service = await start(OwnAgentServicer(arm="agent", agent=own, policy=Policy()))
        client = AgentClient(service.address)
        try:
            yield client, asked
        finally:
            await client.close()
            await service.stop()
            server.close()


async def ask(client: AgentClient, *, seconds: float = HANG_S) -> Invocation:
    request = agent_pb2.RunRequest(run_id="run/0", task_id="t", prompt="Which?", no_tools=True)
    return await client.run(request, timeout_s=seconds)


def http(
    body: bytes, *, status: int = 200, kind: str = "application/json", length: int | None = None
) -> bytes:
    size = len(body) if length is None else length
    return f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {size}\r\n\r\n".encode() + body


LINES = "application/x-ndjson"


async def test_a_body_of_json_is_an_answer(tmp_path: Path) -> None:
    body = json.dumps({"answer": "this", "usage": {"prompt_tokens": 1, "completion_tokens": 2}}, indent=1)
    async with answering(http(body.encode()), tmp_path) as (client, asked):
        done = await ask(client)
    assert (done.outcome, done.replies[0].text) == ("ok", "this")
    (sent,) = asked
    assert f"Bearer {KEY}" in sent
    task = json.loads(sent.partition("\r\n\r\n")[2])
    assert (task["treni"], task["id"], task["prompt"], task["tools"]) == (1, "run/0", "Which?", [])


async def test_each_user_turn_is_a_post_with_all_before_it(tmp_path: Path) -> None:
    async with answering(http(b'{"answer": "this"}'), tmp_path) as (client, asked):
        done = await client.run(
            agent_pb2.RunRequest(run_id="run/0", task_id="t", prompt="Which?", follow_ups=["And?"]),
            timeout_s=HANG_S,
        )
    assert [reply.text for reply in done.replies] == ["this", "this"]
    first, second = (json.loads(sent.partition("\r\n\r\n")[2]) for sent in asked)
    assert (first["prompt"], first["turn"], first["turns"], first["earlier"]) == ("Which?", 1, 2, [])
    assert (second["id"], second["prompt"], second["turn"]) == (first["id"], "And?", 2)
    assert second["earlier"] == [{"prompt": "Which?", "answer": "this"}]


async def test_lines_are_passed_on_as_they_come(tmp_path: Path) -> None:
    body = b'{"text": "th"}\n\n{"text": "is"}\n{"answer": "this"}\nwhatever comes after'
    async with answering(http(body, kind=LINES), tmp_path) as (client, _):
        done = await ask(client)
    assert (done.outcome, done.replies[0].text) == ("ok", "this")


@pytest.mark.parametrize(
    ("raw", "code", "kind"),
    [
        (http(b'{"error": {"message": "no idea"}}'), Code.UNKNOWN, "agent_failed"),
        (http(b'{"error": "out of order"}', status=500), Code.INTERNAL, "http_500"),
        (http(f'{{"error": "not {KEY}"}}'.encode(), status=401), Code.UNAUTHENTICATED, "http_401"),
        (http(b"", status=302), Code.FAILED_PRECONDITION, "http_302"),
        (http(b"<h1>It works!</h1>", kind="text/html"), Code.INTERNAL, "answer_malformed"),
        (http(b'{"text": "th"}\n', kind=LINES), Code.UNAVAILABLE, "stream_cut"),
        (http(b'{"answer": "th', length=100), Code.UNAVAILABLE, "unavailable"),
        (b"not HTTP at all\r\n\r\n", Code.UNAVAILABLE, "unavailable"),
        (http(b'{"text": "' + b"x" * 20_000_000 + b'"}\n', kind=LINES), Code.INTERNAL, "answer_malformed"),
        (http(b'{"answer": "' + b"x" * 20_000_000 + b'"}'), Code.INTERNAL, "answer_malformed"),
    ],
)
async def test_whatever_else_it_answers_is_a_typed_error(
    raw: bytes, code: Code, kind: str, tmp_path: Path
) -> None:
    async with answering(raw, tmp_path) as (client, asked):
        done = await ask(client)
    assert done.error is not None
    assert (done.error.code, done.error.kind) == (code, kind)
    assert KEY not in str(done)
    assert len(asked) == 1, "nobody tries a task twice"


async def test_one_that_hangs_is_given_up(tmp_path: Path) -> None:
    async with answering(b"", tmp_path) as (client, _):
        done = await ask(client, seconds=1)
    assert done.error is not None
    assert done.error.code is Code.DEADLINE_EXCEEDED

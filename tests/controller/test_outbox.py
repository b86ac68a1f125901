from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.outbox import Outbox
from treni.v1 import agent_pb2, common_pb2


def text(value: str) -> agent_pb2.RunEvent:
    return agent_pb2.RunEvent(text=agent_pb2.TextDelta(text=value))


def call(name: str) -> agent_pb2.RunEvent:
    return agent_pb2.RunEvent(tool_call=common_pb2.ToolCall(name=name))


class Client:
    """Takes one event each time it is let, and keeps it."""

    def __init__(self) -> None:
        self.events: list[agent_pb2.RunEvent] = []
        self.ready = asyncio.Semaphore(0)

    async def write(self, event: agent_pb2.RunEvent) -> None:
        await self.ready.acquire()
        self.events.append(event)

    @property
    def kinds(self) -> list[str]:
        return [event.text.text or event.tool_call.name for event in self.events]


async def turn() -> None:
    """Lets every task that can run go on until it waits."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_the_first_event_leaves_at_once_and_later_text_joins_what_waits() -> None:
    client = Client()
    async with Outbox(client.write) as outbox:
        outbox.put(text("a"))
        client.ready.release()
        await turn()
        assert client.kinds == ["a"]
        outbox.put(text("b"))
        await turn()  # "b" is being written now, so nothing may join it
        for event in (text("c"), text("d"), call("x"), text("e"), text("f")):
            outbox.put(event)
        for _ in range(4):
            client.ready.release()
        await outbox.flush()
    assert client.kinds == ["a", "b", "cd", "x", "ef"]


@given(
    steps=st.lists(
        st.one_of(
            st.sampled_from(["go", "turn"]),
            st.tuples(st.sampled_from(["text", "call"]), st.text("ab", min_size=1, max_size=3)),
        )
    )
)
async def test_nothing_is_lost_or_reordered_however_slow_the_client(
    steps: list[str | tuple[str, str]],
) -> None:
    client = Client()
    put: list[tuple[str, str]] = []
    async with Outbox(client.write) as outbox:
        for step in steps:
            if isinstance(step, tuple):
                kind, value = step
                outbox.put(text(value) if kind == "text" else call(value))
                put.append((kind, value))
            elif step == "go":
                client.ready.release()
            else:
                await turn()
        for _ in put:
            client.ready.release()
        await outbox.flush()

    def flat(pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
        """Each character of text by itself, each call whole: what merging must leave alone."""
        return [
            part
            for kind, value in pairs
            for part in ([(kind, c) for c in value] if kind == "text" else [(kind, value)])
        ]

    got = [
        ("text", event.text.text) if event.HasField("text") else ("call", event.tool_call.name)
        for event in client.events
    ]
    assert flat(got) == flat(put)


async def test_a_write_that_fails_is_told_at_the_flush_and_nothing_follows_it() -> None:
    written: list[agent_pb2.RunEvent] = []

    async def write(event: agent_pb2.RunEvent) -> None:
        written.append(event)
        raise ConnectionError("gone")

    async with Outbox(write) as outbox:
        outbox.put(text("a"))
        await turn()
        outbox.put(call("b"))
        with pytest.raises(ConnectionError):
            await outbox.flush()
    assert len(written) == 1


async def test_leaving_early_stops_the_writing() -> None:
    client = Client()
    async with Outbox(client.write) as outbox:
        outbox.put(text("a"))
        await turn()
    client.ready.release()
    await turn()
    assert client.events == []

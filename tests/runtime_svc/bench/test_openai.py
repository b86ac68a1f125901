import itertools
from collections.abc import AsyncIterator

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime_svc.bench import openai
from runtime_svc.bench.contender import Failed
from tests.limits import HANG_S
from tests.runtime_svc.bench import foreign_server
from tests.runtime_svc.bench.foreign_server import TOKENS_AROUND, TOKENS_PER_WORD, ForeignServer, running


def client_of(server: ForeignServer) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=server.url, timeout=HANG_S)


async def lines(*values: bytes) -> AsyncIterator[bytes]:
    for value in values:
        yield value


async def test_a_stream_is_timed_at_its_text_and_counted_by_the_server() -> None:
    with running() as server:
        async with client_of(server) as client:
            answer = await openai.complete(client, "foreign-1", "one two three", 5)
    assert answer.prompt_tokens == TOKENS_AROUND + 3 * TOKENS_PER_WORD
    assert answer.completion_tokens == 5
    assert answer.first_s is not None
    assert answer.last_s is not None
    assert answer.sent_s < answer.first_s <= answer.last_s
    (request,) = server.requests
    assert request["temperature"] == 0
    assert request["stream_options"] == {"include_usage": True}


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("refuses", r"HTTP 500: .*out of\\nmemory"),
        ("no json", "no chunk .*'{oops'"),
        ("no object", "no chunk .*'7'"),
        ("odd choices", r"no chunk \(choices\.0"),
        ("error event", "the engine died"),
        ("named error", "the queue is full"),
        ("dies", "out of memory"),
        ("aborts", "finish_reason 'abort'"),
        ("cut by [DONE]", "ended before its answer did"),
        ("ends early", "ended before its answer did"),
        ("breaks", "the stream broke: RemoteProtocolError"),
        ("no usage", "no token counts"),
    ],
)
async def test_every_wrong_stream_says_what_is_wrong(fault: str, message: str) -> None:
    with running(fault) as server:
        async with client_of(server) as client:
            with pytest.raises(Failed, match=message):
                await openai.complete(client, "foreign-1", "one", 3)


async def test_models_are_listed_and_anything_else_refused() -> None:
    with running() as server:
        async with client_of(server) as client:
            assert await openai.models(client) == ["foreign-1"]
            server.fault = "models"
            with pytest.raises(Failed, match="not a list of models"):
                await openai.models(client)
            server.fault = "loading"
            with pytest.raises(Failed, match="HTTP 503"):
                await openai.models(client)


@pytest.mark.parametrize("fault", foreign_server.TEXTS)
async def test_text_holds_what_unicode_calls_the_end_of_a_line(fault: str) -> None:
    with running(fault) as server:
        async with client_of(server) as client:
            answer = await openai.complete(client, "foreign-1", "one", 3)
    assert answer.completion_tokens == 3
    assert answer.first_s is not None


async def test_an_answer_without_text_has_no_moments() -> None:
    with running("no text") as server:
        async with client_of(server) as client:
            answer = await openai.complete(client, "foreign-1", "one", 3)
    assert (answer.first_s, answer.last_s, answer.completion_tokens) == (None, None, 3)


STREAM = "\ufeff: hello\r\n\r\nevent: x\rdata: a\u2028\u0085\ndata:b\n\ndata\n\nid: 1\ndata: c \n\n\ndata: d".encode()
EVENTS = [("x", "a\u2028\u0085\nb"), ("", ""), ("", "c "), ("", "d")]


@given(st.lists(st.integers(0, len(STREAM))))
async def test_events_are_the_same_however_their_bytes_come(cuts: list[int]) -> None:
    places = [0, *sorted(cuts), len(STREAM)]
    chunks = [STREAM[a:b] for a, b in itertools.pairwise(places)]
    assert [(event.kind, event.data) async for event in openai.sse_events(lines(*chunks))] == EVENTS


async def test_an_event_without_end_is_given_up() -> None:
    chunk = b"x" * (openai.MAX_EVENT_BYTES // 4)
    for stream in ([chunk] * 5, [b"data: " + chunk + b"\n"] * 5):
        with pytest.raises(Failed, match="an event of more than"):
            [event async for event in openai.sse_events(lines(*stream))]

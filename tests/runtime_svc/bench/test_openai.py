import httpx
import pytest

from runtime_svc.bench import openai
from runtime_svc.bench.contender import Failed
from tests.limits import HANG_S
from tests.runtime_svc.bench.foreign_server import TOKENS_AROUND, TOKENS_PER_WORD, running


def client_of(server):
    return httpx.AsyncClient(base_url=server.url, timeout=HANG_S)


async def lines(*values):
    for value in values:
        yield value


async def test_a_stream_is_timed_at_its_text_and_counted_by_the_server():
    with running() as server:
        async with client_of(server) as client:
            answer = await openai.complete(client, "foreign-1", "one two three", 5)
    assert answer.prompt_tokens == TOKENS_AROUND + 3 * TOKENS_PER_WORD
    assert answer.completion_tokens == 5
    assert answer.sent_s < answer.first_s <= answer.last_s
    (request,) = server.requests
    assert request["temperature"] == 0
    assert request["stream_options"] == {"include_usage": True}


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("refuses", r"HTTP 500: .*out of\\nmemory"),
        ("no json", "no JSON: '{oops'"),
        ("no object", "no JSON object: '7'"),
        ("error event", "the engine died"),
        ("ends early", "ended before its answer did"),
        ("breaks", "the stream broke: RemoteProtocolError"),
        ("no usage", "no token counts: usage None"),
        ("no text", "no text"),
    ],
)
async def test_every_wrong_stream_says_what_is_wrong(fault, message):
    with running(fault) as server:
        async with client_of(server) as client:
            with pytest.raises(Failed, match=message):
                await openai.complete(client, "foreign-1", "one", 3)


async def test_models_are_listed_and_anything_else_refused():
    with running() as server:
        async with client_of(server) as client:
            assert await openai.models(client) == ["foreign-1"]
            server.fault = "models"
            with pytest.raises(Failed, match="not a list of models"):
                await openai.models(client)
            server.fault = "loading"
            with pytest.raises(Failed, match="HTTP 503"):
                await openai.models(client)


async def test_events_may_span_lines_and_lack_the_last_blank():
    given = lines(": hello", "", "event: x", "data: a", "data:b", "", "", "id: 1", "data: c")
    assert [data async for data in openai.sse_data(given)] == ["a\nb", "c"]

import shlex
import socket
import sys
from pathlib import Path

import pytest

from runtime_svc.bench.contender import Absent, Failed
from runtime_svc.bench.endpoint import EndpointContender, prompt_text
from tests.limits import HANG_S
from tests.runtime_svc.bench import foreign_server
from tests.runtime_svc.bench.foreign_server import TOKENS_PER_WORD, running
from treni.errors import TreniError

SERVER = Path(foreign_server.__file__)


def contender(
    url: str, command: str | None = None, *, limit_s: float = HANG_S, model: str | None = None
) -> EndpointContender:
    return EndpointContender(url, command, model=model, batches=[1, 2], cold_tokens=6, limit_s=limit_s)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


async def test_prompts_have_the_asked_tokens_as_the_server_counts_them() -> None:
    with running() as server:
        endpoint = contender(server.url)
        started = await endpoint.start()
        assert (started.device, started.cold) == (server.url, None)
        for asked in (50, 128, 512):
            seconds, counted = await endpoint.ttft(asked, seed=asked)
            assert seconds > 0
            assert abs(counted - asked) <= TOKENS_PER_WORD / 2
        await endpoint.aclose()


async def test_the_model_asked_for_is_the_named_one_or_the_first_listed() -> None:
    for model, wanted in ((None, "foreign-1"), ("another", "another")):
        with running() as server:
            endpoint = contender(server.url, model=model)
            started = await endpoint.start()
            await endpoint.aclose()
        assert started.versions["model"] == wanted
        assert {request["model"] for request in server.requests} == {wanted}


async def test_a_batch_is_so_many_requests_with_prompts_of_their_own() -> None:
    with running() as server:
        endpoint = contender(server.url)
        await endpoint.start()
        server.requests.clear()
        seconds, tokens = await endpoint.decode(4, context=64, tokens=9, seed=3)
        await endpoint.aclose()
    assert seconds > 0
    assert tokens == 9
    prompts = {request["messages"][0]["content"] for request in server.requests}
    assert len(prompts) == 4
    assert {request["max_tokens"] for request in server.requests} == {10}


async def test_a_start_command_is_timed_from_its_process_and_ended() -> None:
    port = free_port()
    command = shlex.join([sys.executable, str(SERVER), str(port)])
    endpoint = contender(f"http://127.0.0.1:{port}/v1", command)
    cold = (await endpoint.start()).cold
    assert cold is not None
    assert 0 < cold.ready_s < cold.first_token_s <= cold.total_s
    assert cold.tokens == 6
    process = endpoint._process
    assert process is not None
    await endpoint.aclose()
    assert process.returncode is not None


async def test_what_cannot_be_started_is_absent_or_failed_with_the_reason() -> None:
    nowhere = f"http://127.0.0.1:{free_port()}/v1"
    dies = shlex.join([sys.executable, "-c", "import sys; sys.exit('no such model')"])
    for command, kind, message in (
        (None, Absent, "nothing answers"),
        ("/no/such/program --port 1", Absent, "does not start"),
        ("'unbalanced", Absent, "does not start"),
        (dies, Failed, "ended with 1: no such model"),
    ):
        endpoint = contender(nowhere, command)
        with pytest.raises(kind, match=message):
            await endpoint.start()
        await endpoint.aclose()


async def test_a_server_that_hangs_is_cut_at_the_limit() -> None:
    with running("hangs") as server:
        endpoint = contender(server.url, limit_s=0.3)
        with pytest.raises(Failed, match=r"cut at its limit of 0\.3 s, while starting"):
            await endpoint.start()
        await endpoint.aclose()


async def test_answers_of_one_token_cannot_be_timed() -> None:
    with running() as server:
        endpoint = contender(server.url)
        await endpoint.start()
        with pytest.raises(Failed, match="answers of one token"):
            await endpoint.decode(1, context=20, tokens=0, seed=1)
        await endpoint.aclose()


def test_texts_are_the_seeds() -> None:
    assert prompt_text(9, 1) == prompt_text(9, 1)
    assert prompt_text(9, 1).split()[0] != prompt_text(9, 2).split()[0]
    assert len(prompt_text(9, 1).split()) == 9


async def test_a_first_token_without_text_is_waited_past_and_told() -> None:
    with running("silent first") as server:
        endpoint = contender(server.url)
        await endpoint.start()
        server.requests.clear()
        assert (await endpoint.ttft(50, seed=1))[0] > 0
        assert (await endpoint.decode(1, context=20, tokens=6, seed=1))[1] == 6
        await endpoint.aclose()
    assert [request["max_tokens"] for request in server.requests] == [2, 8]
    assert "first 2 tokens" in endpoint.limits


async def test_answers_without_any_text_fail_with_the_reason() -> None:
    with running("no text") as server:
        endpoint = contender(server.url)
        with pytest.raises(Failed, match="no text in its first 16 tokens"):
            await endpoint.start()
        await endpoint.aclose()


@pytest.mark.parametrize("url", ["http://[::1", "http://127.0.0.1:999999/v1", "http:///v1", "http://\x00/"])
def test_what_is_no_url_is_told_before_anything_runs(url: str) -> None:
    with pytest.raises(TreniError, match="the URL of a server"):
        contender(url)


def test_a_proxy_of_the_environment_is_not_between_us_and_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for url in ("http://127.0.0.1:8000/v1", "http://[::1]:8000/v1", "http://models.example/v1"):
        assert contender(url)._client._mounts == {}

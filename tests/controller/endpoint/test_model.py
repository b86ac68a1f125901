"""The endpoint port against a real server over the bundled model that does mischief: typed errors, honest doubt."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest

from controller.deadline import Deadline
from controller.endpoint.model import Endpoint, EndpointModel, open_endpoint
from controller.policy import Disposition, disposition_of
from controller.ports import AttemptKey, Call
from tests.foreign_endpoint import FINGERPRINT, MODEL, ForeignEndpoint, serving
from tests.limits import HANG_S
from tools_svc.registry import tool_specs
from treni.errors import Code, TreniError
from treni.v1 import common_pb2, inference_pb2

SECRET = "sk-of-the-tests"


def a_call(turn: int = 0, *, seconds: float = HANG_S) -> Call:
    key = AttemptKey(hop="model", run_id="run", request_index=0, call_index=turn, attempt=0)
    return Call(key=key, deadline=Deadline.after(seconds))


async def complete(
    model: EndpointModel, request: inference_pb2.GenerateRequest, call: Call | None = None
) -> tuple[str, inference_pb2.GenerateFinish]:
    text, finish = "", None
    async with aclosing(model.generate(request, call or a_call())) as chunks:
        async for chunk in chunks:
            text += chunk.text
            if chunk.HasField("finish"):
                finish = chunk.finish
    assert finish is not None
    return text, finish


def asking(prompt: str = "Hello, is 7 even or odd?") -> inference_pb2.GenerateRequest:
    return inference_pb2.GenerateRequest(messages=[common_pb2.Message(role="user", content=prompt)])


@pytest.fixture
async def mischief(request: pytest.FixtureRequest) -> AsyncIterator[tuple[EndpointModel, ForeignEndpoint]]:
    """The port over a server that does the parameter's mischief, with its key."""
    async with (
        serving(*request.param.split(), key=SECRET) as (url, server),
        open_endpoint(Endpoint(url=url, model="asked-for", key=SECRET)) as model,
    ):
        yield model, server


@pytest.mark.parametrize("mischief", ["ok"], indirect=True)
async def test_a_tool_call_and_its_result_go_there_and_back_with_their_id(
    mischief: tuple[EndpointModel, ForeignEndpoint],
) -> None:
    model, server = mischief
    request = asking("Calculate 8 divided by 5.")
    request.tools.extend(tool_specs())
    first = a_call()
    _, finish = await complete(model, request, first)
    (called,) = finish.tool_calls
    assert (finish.reason, called.name, called.arguments_json) == (
        "tool_calls",
        "calculator",
        '{"expression": "8 / 5"}',
    )
    assert called.id.startswith("call_")
    assert (finish.model, finish.backend, finish.device) == (MODEL, "endpoint", FINGERPRINT)
    assert finish.usage.prompt_tokens > 0
    assert finish.usage.completion_tokens > 0
    assert first.observed.connection == "new"
    request.messages.add(role="assistant", name="Ada", tool_calls=[called])
    request.messages.add(
        role="tool", tool_name="calculator", content='{"result": 1.6}', tool_call_id=called.id
    )
    second = a_call(1)
    text, finish = await complete(model, request, second)
    assert text == finish.text == "The result is 1.6."
    assert second.observed.connection == "reused"
    sent = server.seen[-1]["body"]
    assert sent["messages"][2]["tool_call_id"] == sent["messages"][1]["tool_calls"][0]["id"] == called.id
    assert [message.get("name") for message in sent["messages"]] == [None, "Ada", None]
    assert (sent["model"], sent["temperature"], sent["seed"]) == ("asked-for", 0, 0)


@pytest.mark.parametrize(
    ("mischief", "code", "kind", "definite", "disposition"),
    [
        ("429", Code.RESOURCE_EXHAUSTED, "http_429", True, Disposition.RETRY),
        ("500", Code.INTERNAL, "http_500", False, Disposition.RETRY),
        ("503", Code.UNAVAILABLE, "http_503", False, Disposition.RETRY),
        ("504", Code.DEADLINE_EXCEEDED, "http_504", False, Disposition.RETRY),
        ("400", Code.INVALID_ARGUMENT, "http_400", True, Disposition.REFUSED),
        ("418", Code.FAILED_PRECONDITION, "http_418", True, Disposition.REFUSED),
        ("redirect", Code.FAILED_PRECONDITION, "http_307", True, Disposition.REFUSED),
        ("cut", Code.UNAVAILABLE, "unavailable", False, Disposition.RETRY),
        ("reset", Code.UNAVAILABLE, "unavailable", False, Disposition.RETRY),
        ("empty", Code.UNAVAILABLE, "stream_cut", False, Disposition.RETRY),
        ("nofinish", Code.UNAVAILABLE, "stream_cut", False, Disposition.RETRY),
        ("error", Code.UNAVAILABLE, "stream_error", False, Disposition.RETRY),
        ("garbage", Code.INTERNAL, "answer_malformed", False, Disposition.RETRY),
        ("flood", Code.INTERNAL, "answer_malformed", False, Disposition.RETRY),
        ("html", Code.INTERNAL, "answer_malformed", False, Disposition.RETRY),
        ("gzip", Code.INTERNAL, "answer_malformed", False, Disposition.RETRY),
    ],
    indirect=["mischief"],
)
async def test_each_failure_is_typed_and_told_with_its_doubt(
    mischief: tuple[EndpointModel, ForeignEndpoint],
    code: Code,
    kind: str,
    definite: bool,
    disposition: Disposition,
) -> None:
    model, server = mischief
    with pytest.raises(TreniError) as raised:
        await complete(model, asking())
    error = raised.value
    assert (error.code, error.kind, error.definite, error.hop) == (code, kind, definite, "model")
    assert error.foreign
    assert disposition_of(error, effects=False) is disposition
    assert len(server.seen) == 1, "only the policy tries again"
    assert SECRET not in str(error)
    if kind == "http_429":
        assert "Retry-After: 7" in error.todo


@pytest.mark.parametrize("mischief", ["slow"], indirect=True)
async def test_an_answer_that_does_not_come_ends_at_the_deadline(
    mischief: tuple[EndpointModel, ForeignEndpoint],
) -> None:
    model, _ = mischief
    with pytest.raises(TreniError) as raised:
        await complete(model, asking(), a_call(seconds=0.2))
    assert (raised.value.code, raised.value.definite) == (Code.DEADLINE_EXCEEDED, False)


@pytest.mark.parametrize("mischief", ["whole"], indirect=True)
async def test_a_server_that_does_not_stream_is_understood(
    mischief: tuple[EndpointModel, ForeignEndpoint],
) -> None:
    text, finish = await complete(mischief[0], asking())
    assert text == finish.text == "7 is odd."


async def test_a_wrong_key_is_refused_and_never_quoted() -> None:
    async with (
        serving(key="another") as (url, _),
        open_endpoint(Endpoint(url=url, model="m", key=SECRET)) as model,
    ):
        with pytest.raises(TreniError) as raised:
            await complete(model, asking())
    error = raised.value
    assert (error.code, error.definite) == (Code.UNAUTHENTICATED, True)
    assert "Bearer [key]" in error.got
    assert SECRET not in f"{error} {error.args} {Endpoint(url='u', model='m', key=SECRET)!r}"


async def test_nobody_there_is_definite() -> None:
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    async with open_endpoint(Endpoint(url=f"http://127.0.0.1:{port}/v1", model="m")) as model:
        with pytest.raises(TreniError) as raised:
            await complete(model, asking())
    assert (raised.value.code, raised.value.definite) == (Code.UNAVAILABLE, True)


async def test_what_an_endpoint_is_not_asked_for_is_refused_by_name() -> None:
    request = asking()
    request.constrain_calls = True
    request.sampling.top_k = 3
    async with open_endpoint(Endpoint(url="http://127.0.0.1:9/v1", model="m")) as model:
        with pytest.raises(TreniError, match="constrain_calls, top_k") as raised:
            await complete(model, request)
    assert raised.value.kind == "parameter_unsupported"


@pytest.mark.parametrize("mischief", ["ok"], indirect=True)
async def test_parameters_are_put_in_and_keys_left_out(
    mischief: tuple[EndpointModel, ForeignEndpoint],
) -> None:
    _, server = mischief
    endpoint = Endpoint(
        url=str(mischief[0]._endpoint.url),
        model="m",
        key=SECRET,
        parameters={"reasoning_effort": "low"},
        omit=("seed", "stream_options"),
    )
    async with open_endpoint(endpoint) as model:
        _, finish = await complete(model, asking())
    sent = server.seen[-1]["body"]
    assert sent["reasoning_effort"] == "low"
    assert {"seed", "stream_options"} & set(sent) == set()
    assert finish.usage.completion_tokens == 0, "the server told none"

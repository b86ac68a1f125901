"""What is refused, and in which words: through the official client, and as bytes where that is too polite."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import httpx
import openai
import pytest

from runtime_svc.core import InferenceCore
from runtime_svc.decoding.runner import Pending, Row
from runtime_svc.http_front import errors
from runtime_svc.http_front.server import RunningFront
from tests.runtime_svc.brake import Brake
from tests.runtime_svc.http_front.front import MODEL, TOOLS, Front, asking
from treni.errors import DEFINITE, Code, TreniError

CALL = {"id": "a", "type": "function", "function": {"name": "calculator", "arguments": "{}"}}
CALLING = {"role": "assistant", "tool_calls": [CALL]}
USER = {"role": "user", "content": "x"}
RESULT = {"role": "tool", "tool_call_id": "a", "content": ""}
IMAGE = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}
MANY = json.dumps({f"unknown{number}": 0 for number in range(9000)}).encode()
THINK = {"chat_template_kwargs": {"enable_thinking": True}}
NAMED = {"type": "function", "function": {"name": "f"}}
NO_OBJECT = {"type": "function", "function": {"name": "f", "parameters": {"type": "string"}}}

PARAMETERS: list[tuple[dict[str, Any], str | None, str]] = [
    ({"logit_bias": {"1": 2}}, "logit_bias", "invalid_value"),
    ({"frequency_penalty": 0.5}, "frequency_penalty", "unsupported_value"),
    ({"presence_penalty": 1}, "presence_penalty", "unsupported_value"),
    ({"n": 2}, "n", "unsupported_value"),
    ({"store": True}, "store", "unsupported_value"),
    ({"extra_body": {"min_p": 0.1}}, "min_p", "unsupported_parameter"),
    ({"extra_body": {"messages": [USER | {"weight": 1}]}}, "messages[0].weight", "unsupported_parameter"),
    ({"metadata": {"a": "b"}}, "metadata", "unsupported_parameter"),
    ({"functions": [{"name": "f"}]}, "functions", "unsupported_parameter"),
    ({"temperature": 2.5}, "temperature", "invalid_value"),
    ({"temperature": "1"}, "temperature", "invalid_type"),
    ({"max_tokens": True}, "max_tokens", "invalid_type"),
    ({"max_tokens": 0}, "max_tokens", "invalid_value"),
    ({"max_tokens": 1, "max_completion_tokens": 1}, "max_tokens", "parameters_conflict"),
    ({"top_logprobs": 3}, "top_logprobs", "parameters_conflict"),
    ({"logprobs": True, "top_logprobs": 21}, "top_logprobs", "invalid_value"),
    ({"stop": ["a", "b", "c", "d", "e"]}, "stop", "invalid_value"),
    ({"stop": ""}, "stop", "invalid_value"),
    ({"seed": 2**63}, "seed", "invalid_value"),
    ({"tool_choice": "required"}, "tool_choice", "parameters_conflict"),
    ({"tools": TOOLS, "tool_choice": NAMED}, "tool_choice", "parameters_conflict"),
    ({"tools": [*TOOLS, TOOLS[0]]}, "tools[4].function.name", "parameters_conflict"),
    ({"tools": [{"type": "web_search"}]}, "tools[0].type", "unsupported_value"),
    ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name", "invalid_value"),
    ({"tools": [NO_OBJECT]}, None, "tool_invalid"),
    ({"response_format": {"type": "xml"}}, "response_format", "unsupported_value"),
    ({"response_format": {"type": "json_schema"}}, "response_format.json_schema", "missing_required_parameter"),
    ({"reasoning_effort": "a lot"}, "reasoning_effort", "unsupported_value"),
    ({"reasoning_effort": "none", "extra_body": THINK},
     "chat_template_kwargs.enable_thinking", "parameters_conflict"),
    ({"messages": []}, "messages", "invalid_value"),
    ({"messages": [{"role": "critic", "content": "x"}]}, "messages[0]", "unsupported_value"),
    ({"messages": [IMAGE]}, "messages[0].content[0].type", "unsupported_value"),
    ({"messages": [USER, CALLING]}, "messages[1]", "tool_result_missing"),
    ({"messages": [USER, CALLING, USER]}, "messages[1]", "tool_result_missing"),
    ({"messages": [USER, RESULT]}, "messages[1].tool_call_id", "tool_call_id_unknown"),
    ({"messages": [USER, CALLING, RESULT, RESULT]}, "messages[3].tool_call_id", "tool_call_id_repeated"),
    ({"max_tokens": 5000}, "messages", "context_length_exceeded"),
    ({"messages": [USER | {"content": "word " * 14000}]}, "messages", "prompt_too_large"),
]  # fmt: skip


@pytest.mark.parametrize(("more", "param", "code"), PARAMETERS, ids=[f"{p}-{c}" for _, p, c in PARAMETERS])
def test_a_parameter_is_refused_by_name(
    client: openai.OpenAI, more: dict[str, Any], param: str | None, code: str
) -> None:
    for stream in (False, True):
        with pytest.raises(openai.BadRequestError) as refused:
            client.chat.completions.create(**(asking("x", stream=stream) | more))
        assert (refused.value.param, refused.value.code) == (param, code)
        assert refused.value.type == "invalid_request_error"


@pytest.mark.parametrize(
    ("more", "param", "code"),
    [
        ({"input": [1, 2]}, "input[0]", "invalid_type"),
        ({"input": [[1, 2]]}, "input[0]", "invalid_type"),
        ({"input": []}, "input", "invalid_value"),
        ({"input": ""}, "input", "invalid_value"),
        ({"input": ["a"] * 257}, "input", "invalid_value"),
        ({"input": "a", "dimensions": 3}, "dimensions", "unsupported_parameter"),
        ({"input": "word " * 5000}, "input", "context_length_exceeded"),
    ],
)
def test_embeddings_refuse_by_name_too(
    client: openai.OpenAI, more: dict[str, Any], param: str, code: str
) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.embeddings.create(model=MODEL, **more)
    assert (refused.value.param, refused.value.code) == (param, code)


def test_another_model_is_not_found(client: openai.OpenAI) -> None:
    for ask in (
        lambda: client.chat.completions.create(**(asking("x") | {"model": "gpt-5"})),
        lambda: client.embeddings.create(model="gpt-5", input="x"),
        lambda: client.models.retrieve("gpt-5"),
    ):
        with pytest.raises(openai.NotFoundError) as refused:
            ask()
        assert refused.value.code == "model_not_found"


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "status", "code"),
    [
        ("POST", "/v1/chat/completions", b"{", {}, 400, "json_invalid"),
        ("POST", "/v1/chat/completions", b"", {}, 400, "json_invalid"),
        ("POST", "/v1/chat/completions", b"[1]", {}, 400, "invalid_type"),
        ("POST", "/v1/chat/completions", b"[" * 5000, {}, 400, "json_invalid"),
        ("POST", "/v1/chat/completions", b'{"model": "\xff"}', {}, 400, "json_invalid"),
        ("POST", "/v1/chat/completions", b'{"seed": 1' + b"0" * 5000 + b"}", {}, 400, None),
        ("POST", "/v1/chat/completions", MANY, {}, 400, "body_invalid"),
        ("POST", "/v1/chat/completions", b"{}", {"content-type": "text/plain"}, 415, "media_type_unsupported"),
        ("POST", "/v1/chat/completions", b"{}", {"content-encoding": "gzip"}, 415, "media_type_unsupported"),
        ("GET", "/v1/chat/completions", b"", {}, 405, "method_not_allowed"),
        ("DELETE", "/health", b"", {}, 405, "method_not_allowed"),
        ("GET", "/v1/responses", b"", {}, 404, "path_unknown"),
        ("GET", "/v1/models/", b"", {}, 404, "path_unknown"),
        ("POST", "/v1/embeddings", b" " * (512 * 1024 + 1), {}, 413, "request_too_large"),
    ],
)  # fmt: skip
def test_what_no_polite_client_sends(
    front: Front, method: str, path: str, body: bytes, headers: dict[str, str], status: int, code: str | None
) -> None:
    sent = {"content-type": "application/json"} | headers
    answer = httpx.request(method, front.http + path, content=body, headers=sent)
    assert answer.status_code == status
    error = errors.ErrorBody.model_validate_json(answer.content).error
    assert code is None or error.code == code


def test_every_code_has_a_status_and_none_is_a_success() -> None:
    for code in Code:
        error = TreniError(code, "something", expected="a", got="b", todo="c")
        assert 400 <= errors.status_of(error) <= 599
        body = errors.ErrorBody.model_validate_json(errors.body_of(error)).error
        assert body.treni.definite == DEFINITE[code]
        assert (body.code == "inference_required") == (errors.status_of(error) == 502)


async def test_a_full_queue_says_when_to_come_again(
    here: RunningFront, core: InferenceCore, brake: Brake
) -> None:
    brake.hold(after=0)
    async with openai.AsyncOpenAI(base_url=here.address, api_key="none", max_retries=0) as client:
        body = asking("x", max_tokens=3) | {"model": "small"}
        waiting = [asyncio.ensure_future(client.chat.completions.create(**body)) for _ in range(3)]
        await brake.standing()
        while core.engine.scheduler.queued < 2:  # noqa: ASYNC110 - the core tells nobody
            await asyncio.sleep(0)
        with pytest.raises(openai.RateLimitError) as caught:
            await client.chat.completions.create(**body)
        refused = caught.value
        assert refused.code == "queue_full"
        assert refused.response.headers["retry-after"] == "1"
        with pytest.raises(openai.RateLimitError):
            await client.embeddings.create(model="small", input="x")
        brake.release()
        for answer in await asyncio.gather(*waiting):
            assert answer.choices[0].finish_reason == "length"


async def test_what_the_engine_could_not_compute_is_no_answer(
    here: RunningFront, long_body: dict[str, Any], brake: Brake, monkeypatch: pytest.MonkeyPatch
) -> None:
    launch, steps = brake._launch, 0

    def broken(rows: Sequence[Row]) -> Pending:
        nonlocal steps
        steps += 1
        if steps % 40 == 0:
            raise ZeroDivisionError("a kernel")
        return launch(rows)

    monkeypatch.setattr(brake, "_launch", broken)
    async with openai.AsyncOpenAI(base_url=here.address, api_key="none", max_retries=0) as client:
        body = long_body | {"extra_body": {"top_k": long_body["top_k"]}}
        del body["top_k"]
        with pytest.raises(openai.InternalServerError) as failed:
            await client.chat.completions.create(**body)
        assert (failed.value.status_code, failed.value.code) == (502, "inference_required")
        # Text has been sent before the step that breaks, and so have the headers.
        stream = await client.chat.completions.create(**body, stream=True)
        with pytest.raises(openai.APIError, match="ZeroDivisionError"):
            async for _ in stream:
                pass

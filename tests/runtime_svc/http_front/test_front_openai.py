"""The official client against a real process with the bundled model, whose tool calls are its own."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import openai
import pytest

from tests.runtime_svc.http_front.front import MODEL, TOOLS, Front, asking
from tests.runtime_svc.requests import generate_request
from tools_svc.protocol import ToolsConfig
from tools_svc.registry import Registry, build_registry
from treni import metadata
from treni.v1 import inference_pb2_grpc, tools_pb2

CHAIN = "Could you find the founding year of Hyderabad minus the founding year of Seoul, and then multiply it by 7?"
CALLED = ["facts_sql", "facts_sql", "calculator", "calculator"]
ANSWER = "The result is 1379."


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    path: Path = tmp_path_factory.mktemp("tools") / "ledger.db"
    with build_registry(ToolsConfig(ledger_path=path)) as tools:
        yield tools


def run(registry: Registry, name: str, arguments: str) -> str:
    """The result of a real tool."""
    return registry.call(tools_pb2.CallToolRequest(name=name, arguments_json=arguments)).result_json


def test_a_streamed_conversation_of_several_turns_and_tools(
    client: openai.OpenAI, registry: Registry
) -> None:
    messages: list[Any] = [{"role": "user", "content": CHAIN}]
    called: list[str] = []
    ids: set[str] = set()
    cached = []
    for _ in range(8):
        with client.chat.completions.stream(
            model=MODEL,
            messages=messages,
            tools=TOOLS,
            stream_options={"include_usage": True},
            prompt_cache_key="chain",
        ) as stream:
            answer = stream.get_final_completion()
        assert answer.usage is not None
        assert answer.usage.prompt_tokens_details is not None
        cached.append(answer.usage.prompt_tokens_details.cached_tokens)
        said = answer.choices[0]
        messages.append(said.message)
        if said.finish_reason == "stop":
            break
        assert said.finish_reason == "tool_calls"
        for call in said.message.tool_calls or ():
            called.append(call.function.name)
            ids.add(call.id)
            result = run(registry, call.function.name, call.function.arguments)
            messages.append({"role": "tool", "tool_call_id": call.id, "content": result})
    assert messages[-1].content == ANSWER
    assert called == CALLED
    assert len(ids) == len(called), "an id of its own for every call"
    assert cached[0] == 0
    assert all(count for count in cached[1:]), "a turn under the same prompt_cache_key finds the ones before"


def test_the_same_conversation_without_streams(client: openai.OpenAI, registry: Registry) -> None:
    messages: list[Any] = [{"role": "user", "content": CHAIN}]
    called: list[str] = []
    while True:
        answer = client.chat.completions.create(model=MODEL, messages=messages, tools=TOOLS)
        said = answer.choices[0]
        messages.append(said.message)
        assert answer.usage is not None
        assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
        assert answer.usage.prompt_tokens_details is not None
        assert answer.usage.prompt_tokens_details.cached_tokens == 0, "nobody asked for what others left"
        if said.finish_reason == "stop":
            break
        for call in said.message.tool_calls or ():
            assert call.type == "function"
            called.append(call.function.name)
            result = run(registry, call.function.name, call.function.arguments)
            messages.append({"role": "tool", "tool_call_id": call.id, "content": result})
    assert messages[-1].content == ANSWER
    assert called == CALLED


async def test_it_says_what_the_other_front_says(front: Front, client: openai.OpenAI) -> None:
    prompt = "So, out of 8 and 7982, what is the lower one?"
    whole = client.chat.completions.create(**asking(prompt))
    chunks = list(client.chat.completions.create(**asking(prompt, stream=True)))
    async with grpc.aio.insecure_channel(front.grpc, options=metadata.CHANNEL_OPTIONS) as channel:
        stub = inference_pb2_grpc.InferenceServiceStub(channel)
        finish = [chunk async for chunk in stub.Generate(generate_request(prompt))][-1].finish
    said = whole.choices[0]
    assert said.message.content == finish.content
    assert said.finish_reason == finish.reason
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == finish.content
    assert [chunk.choices[0].finish_reason for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert chunks[-1].choices[0].finish_reason == finish.reason
    assert chunks[0].choices[0].delta.role == "assistant"
    assert len({chunk.id for chunk in chunks}) == 1
    assert all(chunk.usage is None for chunk in chunks)
    assert whole.usage is not None
    assert whole.usage.completion_tokens == finish.usage.completion_tokens


def test_extras_stand_under_one_key(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(**asking("Hello", max_tokens=4))
    assert set(whole.model_extra or {}) == {"treni"}
    extras = (whole.model_extra or {})["treni"]
    assert (extras["backend"], extras["constrained"]) == ("numpy", False)
    timings = extras["timings"]
    assert 0 < timings["first_token_s"] <= timings["total_s"]
    assert extras["awareness"]["perplexity"] >= 1
    assert extras["awareness"]["route"] is None
    *others, last = client.chat.completions.create(**asking("Hello", max_tokens=4, stream=True))
    assert set((last.model_extra or {})["treni"]) == set(extras)
    assert all(not other.model_extra for other in others)


def test_usage_comes_last_where_it_is_asked_for(client: openai.OpenAI) -> None:
    body = asking("Hello", max_tokens=4, stream=True, stream_options={"include_usage": True})
    *chunks, last = client.chat.completions.create(**body)
    assert last.choices == []
    assert last.usage is not None
    assert last.usage.completion_tokens <= 4
    assert all(chunk.usage is None for chunk in chunks)


def test_a_limit_of_tokens_ends_the_answer(client: openai.OpenAI) -> None:
    for key in ("max_tokens", "max_completion_tokens"):
        answer = client.chat.completions.create(
            **asking("Name these words backwards: mint, lamp.", **{key: 3})
        )
        assert answer.usage is not None
        assert (answer.choices[0].finish_reason, answer.usage.completion_tokens) == ("length", 3)


def test_a_seed_gives_the_same_again_and_none_is_told(client: openai.OpenAI) -> None:
    def drawn(**more: Any) -> tuple[str | None, int]:
        body = asking("Tell me anything", temperature=2, max_tokens=24, **more)
        answer = client.chat.completions.create(**body)
        return answer.choices[0].message.content, (answer.model_extra or {})["treni"]["seed"]

    assert drawn(seed=7) == drawn(seed=7)
    assert drawn(seed=-1)[0] == drawn(seed=-1)[0]
    text, seed = drawn()
    assert drawn(seed=seed) == (text, seed), "the seed that nobody set is told, and gives the same again"
    assert len({drawn()[1] for _ in range(3)}) == 3


def test_next_to_nothing_of_top_p_is_the_first_token(client: openai.OpenAI) -> None:
    greedy = client.chat.completions.create(**asking("Hello", max_tokens=8)).choices[0].message.content
    for top_p in (0, 1e-60):
        body = asking("Hello", max_tokens=8, temperature=2, top_p=top_p, seed=3)
        assert client.chat.completions.create(**body).choices[0].message.content == greedy


def test_embeddings_as_numbers_and_as_base64(client: openai.OpenAI) -> None:
    texts = ["the sea", "the ocean"]
    packed = client.embeddings.create(model=MODEL, input=texts)  # base64 is what the client asks for
    plain = client.embeddings.create(model=MODEL, input=texts, encoding_format="float")
    assert [item.index for item in plain.data] == [0, 1]
    for one, other in zip(packed.data, plain.data, strict=True):
        assert one.embedding == pytest.approx(other.embedding)
        assert math.hypot(*other.embedding) == pytest.approx(1, abs=1e-5)
    assert plain.usage.prompt_tokens == plain.usage.total_tokens > 2
    alone = client.embeddings.create(model=MODEL, input=texts[0], encoding_format="float")
    assert alone.data[0].embedding == plain.data[0].embedding


def test_models_are_listed(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == [MODEL]
    assert client.models.retrieve(MODEL).id == MODEL


def test_the_same_paths_without_v1(front: Front) -> None:
    with openai.OpenAI(base_url=front.http, api_key="none", max_retries=0) as client:
        assert client.models.retrieve(MODEL).id == MODEL
        assert client.chat.completions.create(**asking("Hello", max_tokens=2)).choices
        assert client.embeddings.create(model=MODEL, input="x").data


async def test_many_clients_at_once(front: Front) -> None:
    prompts = [f"Calculate {number} plus {number + 1}." for number in range(12)]
    async with openai.AsyncOpenAI(base_url=f"{front.http}/v1", api_key="none", max_retries=0) as client:

        async def answered(prompt: str) -> str:
            stream = await client.chat.completions.create(**asking(prompt, tools=TOOLS, stream=True))
            said = ""
            async for chunk in stream:
                for call in chunk.choices[0].delta.tool_calls or ():
                    assert call.function is not None
                    said += f"{call.function.name} {call.function.arguments}"
            return said

        alone = [await answered(prompt) for prompt in prompts]
        assert await asyncio.gather(*(answered(prompt) for prompt in prompts)) == alone
    assert json.loads(alone[3].removeprefix("calculator ")) == {"expression": "3 + 4"}

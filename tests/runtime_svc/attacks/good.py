"""Good clients of both fronts, who ask the same over and over and are to get what they got when nobody else asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field

import httpx

from tests.limits import HANG_S
from tests.proto.certificates import KEY
from tests.runtime_svc.attacks.target import SLOTS, Target
from tests.runtime_svc.http_front.front import OFFERED, TOOLS, asking
from tests.runtime_svc.http_front.streams import prompts
from tests.runtime_svc.requests import generate_request
from tools_svc.registry import tool_specs
from treni.channels import open_channel, open_http
from treni.v1 import inference_pb2_grpc

PROMPTS = prompts(4)
NEW_TOKENS = 30

LONGEST_WORDS = 150
"""Of a prompt that just fits into a slot: two tokens each."""

CREDENTIAL = ("authorization", f"Bearer {KEY}")

Ask = Callable[[str], Awaitable[object]]
"""Asks one prompt; all that the answer says which does not depend on when it was asked."""


def http(target: Target) -> httpx.AsyncClient:
    """An HTTP client that the target knows."""
    tls = target.tls()
    return open_http(
        base_url=target.front.http, headers=[CREDENTIAL], verify=True if tls is None else tls, timeout=HANG_S
    )


@asynccontextmanager
async def _over_http(target: Target) -> AsyncIterator[Ask]:
    async with http(target) as client:

        async def ask(prompt: str) -> object:
            body = asking(prompt, tools=TOOLS, max_tokens=NEW_TOKENS, logprobs=True)
            answer = await client.post("/v1/chat/completions", json=body)
            assert answer.status_code == 200, f"a good request was lost: {answer.text}"
            (choice,) = answer.json()["choices"]
            calls = [call["function"] for call in choice["message"].get("tool_calls") or ()]
            tokens = [token["token"] for token in choice["logprobs"]["content"]]
            return choice["finish_reason"], choice["message"]["content"], calls, tokens

        yield ask


@asynccontextmanager
async def _over_grpc(target: Target) -> AsyncIterator[Ask]:
    async with open_channel(target.front.grpc, given=target.known) as channel:
        stub = inference_pb2_grpc.InferenceServiceStub(channel)
        offered = [spec for spec in tool_specs() if spec.name in OFFERED]

        async def ask(prompt: str) -> object:
            request = generate_request(prompt, tools=offered, max_new_tokens=NEW_TOKENS)
            *_, last = [chunk async for chunk in stub.Generate(request, timeout=HANG_S)]
            return last.finish.reason, last.finish.text, [token.id for token in last.finish.tokens]

        yield ask


CLIENTS: Mapping[str, Callable[[Target], AbstractAsyncContextManager[Ask]]] = {
    "http": _over_http,
    "grpc": _over_grpc,
}
"""A client of each front."""


@dataclass(kw_only=True, slots=True)
class Good:
    """A client of one front: what it was told alone, and how often the same since."""

    front: str
    alone: Mapping[str, object]
    answered: int = field(default=0)


async def fill(target: Target) -> None:
    """Has every slot hold as long a sequence as it can, and what is imported for a constraint imported."""
    async with open_channel(target.front.grpc, given=target.known) as channel:
        stub = inference_pb2_grpc.InferenceServiceStub(channel)

        async def one(number: int) -> None:
            request = generate_request("word " * LONGEST_WORDS, cache_key=f"{number}", max_new_tokens=1)
            async for _ in stub.Generate(request, timeout=HANG_S):
                pass

        await asyncio.gather(*map(one, range(SLOTS)))
        held = generate_request("Hello", max_new_tokens=8)
        held.constraint.json_object = True
        async for _ in stub.Generate(held, timeout=HANG_S):
            pass


async def work(target: Target, front: str, begin: asyncio.Barrier, stop: asyncio.Event) -> Good:
    """Asks everything once alone, meets the others at the barrier, and then asks on until told to stop.

    Raises AssertionError for an answer that differs, and whatever the client raises for one that does not come.
    """
    async with CLIENTS[front](target) as ask:
        good = Good(front=front, alone={prompt: await ask(prompt) for prompt in PROMPTS})
        await begin.wait()
        while not stop.is_set() or good.answered < len(PROMPTS):
            prompt = PROMPTS[good.answered % len(PROMPTS)]
            told = await ask(prompt)
            assert told == good.alone[prompt], (
                f"a good client of {front} was told {told}, not {good.alone[prompt]}"
            )
            good.answered += 1
    return good

"""What is asked of outside before anything runs: an endpoint for its model, an agent whether it is there."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from urllib.parse import urlsplit

from controller.deadline import Deadline
from controller.endpoint.model import Endpoint, open_endpoint
from controller.ports import MODEL_HOP, AttemptKey, Call
from matrices.evidence.campaign import Campaign
from matrices.evidence.outside import EndpointTold
from matrices.spec.outside import AgentSpec, EndpointSpec, key_in
from treni.errors import TreniError, invalid_argument
from treni.v1 import common_pb2, inference_pb2

ASK_LIMIT_S = 120.0
"""How long an endpoint may take for one token, or an agent's server to take a connection."""


async def ask_outside(campaign: Campaign) -> EndpointTold | None:
    """What the campaign's endpoint tells of its model, None without one; its own agent is asked whether it is there.

    Raises INVALID_ARGUMENT for what does not answer.
    """
    await ask_agent(campaign.options.own_agent)
    return await ask_endpoint(campaign.options.endpoint)


async def ask_endpoint(spec: EndpointSpec | None) -> EndpointTold | None:
    """How the endpoint names its model, by one token of it; None for no endpoint.

    Raises what the endpoint answered instead, as INVALID_ARGUMENT: there is nothing to measure then.
    """
    if spec is None:
        return None
    endpoint = Endpoint(
        url=spec.url,
        model=spec.model,
        key=key_in(spec.key_env, option="--model-key-env"),
        parameters=spec.parameters,
        omit=spec.omit,
    )
    request = inference_pb2.GenerateRequest(
        messages=[common_pb2.Message(role="user", content="Hello")],
        sampling=common_pb2.Sampling(max_new_tokens=1),
    )
    key = AttemptKey(hop=MODEL_HOP, run_id="asking", request_index=0, call_index=0, attempt=0)
    told = None
    try:
        async with open_endpoint(endpoint) as model:
            async for chunk in model.generate(request, Call(key=key, deadline=Deadline.after(ASK_LIMIT_S))):
                if chunk.HasField("finish"):
                    told = EndpointTold(model=chunk.finish.model, fingerprint=chunk.finish.device)
    except TreniError as error:
        raise invalid_argument(
            error.kind,
            expected=f"--model-endpoint {spec.url}: {error.expected}",
            got=error.got,
            todo=error.todo,
        ) from None
    assert told is not None, "a model finishes, or raises"
    return told


async def ask_agent(spec: AgentSpec | None) -> None:
    """Raises INVALID_ARGUMENT where there is no such command or key, or nobody listens at the URL."""
    if spec is None:
        return
    key_in(spec.key_env, option="--agent-key-env")
    if not spec.url:
        _find_command(spec)
        return
    parts = urlsplit(spec.url)
    port = parts.port or {"http": 80, "https": 443}[parts.scheme]
    try:
        async with asyncio.timeout(ASK_LIMIT_S):
            _, writer = await asyncio.open_connection(parts.hostname, port)
        writer.close()
    except (OSError, TimeoutError) as error:
        raise invalid_argument(
            "agent_unreachable",
            expected=f"--agent-url {spec.url}: a server that listens there",
            got=str(error) or type(error).__name__,
            todo="start the agent, or correct the URL",
        ) from None


def _find_command(spec: AgentSpec) -> None:
    program = spec.command[0]
    found = shutil.which(program) if "/" not in program else shutil.which(str(Path(spec.folder) / program))
    if found is None:
        raise invalid_argument(
            "agent_unstartable",
            expected="--agent-command: a program that can be run",
            got=repr(program[:120]),
            todo=f"give one that is on the PATH, or a path to one from {spec.folder}",
        )

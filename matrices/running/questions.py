"""A few questions to one agent, without a campaign: at an address, or of an arm whose services are started for them."""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from controller.server import validate
from matrices.arms.arm import Arm, Comparison
from matrices.evidence.campaign import MARGIN, Campaign, Options
from matrices.planning.plan import PlannedCell
from matrices.running.client import AgentClient, Invocation, Watch
from matrices.running.preflight import refuse_impossible
from matrices.spec.profiles import PolicySpec, Profile
from matrices.spec.suites import Suite
from matrices.spec.tooling import Tooling
from matrices.topologies.cell_services import CellServices
from matrices.topologies.registry import topology
from treni.v1 import agent_pb2

TOOL_TIMEOUT_S = 30.0
"""The limit of one attempt at a tool, unless there is less time in all: long, as nothing is compared."""

_NAME = "ask"


@dataclass(frozen=True, kw_only=True, slots=True)
class Agent:
    """Where an agent answers, and the session that it takes calls of, "" for any."""

    address: str
    fence: str = ""


@asynccontextmanager
async def started(
    arm: Arm, *, model_dir: str | None, backend: str, tooling: Tooling, timeout_s: float
) -> AsyncIterator[Agent]:
    """The arm's agent on this machine, its services started as a campaign's are, and gone when the block is left.

    No proxies stand before its hops: nothing is faulted. Raises what a campaign's start raises.
    """
    plain = replace(arm, faultable=())
    with tempfile.TemporaryDirectory(prefix="treni-ask-") as folder:
        campaign = _campaign(
            Comparison(baseline=plain, compared=plain.again()),
            folder=Path(folder),
            model_dir=model_dir,
            backend=backend,
            tooling=tooling,
            timeout_s=timeout_s,
        )
        refuse_impossible(campaign)
        (cell,), options = campaign.cells, campaign.options
        where = topology(options.topology, options.placement)
        async with CellServices.open(where, cell, campaign, counters={}) as services:
            (address,) = services.agents(arm.name).values()
            yield Agent(address=address, fence=services.fence)


def _campaign(
    comparison: Comparison,
    *,
    folder: Path,
    model_dir: str | None,
    backend: str,
    tooling: Tooling,
    timeout_s: float,
) -> Campaign:
    policy = PolicySpec(
        run_timeout=timeout_s, model_timeout=timeout_s, tool_timeout=min(timeout_s, TOOL_TIMEOUT_S)
    )
    cell = PlannedCell(
        name=_NAME,
        profile=Profile(name=_NAME, title="Questions, without faults", policy=policy),
        comparison=comparison,
        pairs=(),
        seed=0,
        idempotency=True,
        alone=True,
    )
    options = Options(
        suite=_NAME,
        runs=1,
        seed=0,
        concurrency=1,
        topology="local",
        backend=backend,
        model_dir=model_dir,
        idempotency=True,
        margin=MARGIN,
        restarts=1,
        toxiproxy=None,
        tooling=tooling,
    )
    return Campaign(folder=folder, options=options, suite=Suite(name=_NAME, runs=()), cells=(cell,))


def request_for(questions: Sequence[str], *, tools: Sequence[str], no_tools: bool) -> agent_pb2.RunRequest:
    """The request that asks the questions in one conversation; `tools` are the names to offer, all there are for none.

    Raises INVALID_ARGUMENT for what no run could do: too many questions, or one that is empty or too long.
    """
    request = agent_pb2.RunRequest(
        run_id=f"{_NAME}/{secrets.token_hex(8)}",
        task_id=_NAME,
        prompt=questions[0],
        follow_ups=questions[1:],
        tools=tools,
        no_tools=no_tools,
    )
    validate(request)
    return request


async def ask(agent: Agent, request: agent_pb2.RunRequest, *, timeout_s: float, watch: Watch) -> Invocation:
    """What the agent answers; `watch` hears of everything as it happens.

    Never raises for what the agent or the network did.
    """
    client = AgentClient(agent.address, fence=agent.fence)
    try:
        return await client.run(request, timeout_s=timeout_s, watch=watch)
    finally:
        await client.close()

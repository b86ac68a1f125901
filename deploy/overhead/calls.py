"""The calls that are timed beside each other, each made once by one of these."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc

from chaos.deliveries import DeliveryLog
from chaos.lanes import open_lanes
from deploy.overhead.bare import METHOD
from treni.channels import open_channel
from treni.v1 import tools_pb2, tools_pb2_grpc

PAYLOAD_BYTES = 256

Timed = Callable[[], Awaitable[float]]
"""Makes one call and gives the seconds that it took, those of the work that was asked for left out."""

WITHIN, ACROSS, HOP, PROXIED, RAY = "within", "across", "hop", "proxied", "ray"
"""The names of the calls: bare gRPC on one host and over the link, our hop without and with proxies, and Ray's."""


@asynccontextmanager
async def opened(targets: Mapping[str, str], scratch: Path) -> AsyncIterator[dict[str, Timed]]:
    """Every call that the targets allow, over connections of its own.

    `targets` has the addresses of bare servers `within` and `across`, of the tools at `hop`, of the `toxiproxy` server,
    and may have that of a `ray` cluster.
    """
    async with AsyncExitStack() as stack:
        calls: dict[str, Timed] = {}
        for name in (WITHIN, ACROSS):
            # As a program of anyone's would open it: nothing of ours on this side either.
            bare = await stack.enter_async_context(grpc.aio.insecure_channel(targets[name]))
            calls[name] = _echo(bare)
        direct = await stack.enter_async_context(open_channel(targets[HOP]))
        calls[HOP] = _tool(direct)
        log = stack.enter_context(DeliveryLog(scratch / "deliveries.jsonl"))
        lanes = open_lanes(
            targets["toxiproxy"], hop="tool", upstream=targets[HOP], schedule=None, deliveries=log
        )
        calls[PROXIED] = _tool(await stack.enter_async_context(lanes))
        if RAY in targets:
            from deploy.overhead.ray_call import ray_call

            calls[RAY] = stack.enter_context(ray_call(targets[RAY], bytes(PAYLOAD_BYTES)))
        yield calls


def _echo(channel: grpc.aio.Channel) -> Timed:
    echo: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(METHOD)
    payload = bytes(PAYLOAD_BYTES)

    async def call() -> float:
        started_s = time.perf_counter()
        await echo(payload)
        return time.perf_counter() - started_s

    return call


def _tool(channel: grpc.aio.Channel | Any) -> Timed:
    run: Any = tools_pb2_grpc.ToolServiceStub(channel).Call
    # Spaces fill the request up to what the others carry.
    expression = "6 * 7".ljust(PAYLOAD_BYTES - 24)
    request = tools_pb2.CallToolRequest(
        name="calculator", arguments_json=f'{{"expression": "{expression}"}}', run_id="overhead"
    )

    async def call() -> float:
        started_s = time.perf_counter()
        response = await run(request)
        return time.perf_counter() - started_s - float(response.tool_s)

    return call

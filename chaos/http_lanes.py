"""Lanes of a hop that speaks plain HTTP/1: a proxy for each kind of fault, chosen by the address that is dialled.

A request has a connection to itself for as long as it lasts, and nothing is set up on one before it. So an attempt
under a fault goes out on a connection through its lane's proxy, and none has to be warmed.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from chaos.deliveries import DeliveryLog
from chaos.faults import FaultKind, Hop, Lane, Toxic, fault_of
from chaos.injector import injected
from chaos.schedule import Schedule
from chaos.toxiproxy import ToxiproxyClient
from treni import metadata
from treni.errors import Code, TreniError

_log = logging.getLogger("treni.chaos")


class HttpLanes:
    """The addresses of a hop's lanes: called with an attempt, it gives the one to connect to. Use `open_http_lanes`."""

    def __init__(self, hop: Hop, clean: str, lanes: Mapping[FaultKind, str], deliveries: DeliveryLog) -> None:
        self._hop = hop
        self._clean = clean
        self._lanes = lanes
        self._deliveries = deliveries

    def __call__(self, call: Any) -> str:
        """The address for the attempt (`controller.ports.Call`), its fault logged as delivered.

        A refusal is raised here: nobody of ours stands behind the hop, so that it never leaves. Raises
        FAILED_PRECONDITION (`lane_missing`) for a fault that no lane is open for.
        """
        fault = fault_of(call.metadata)
        if fault is None or fault.hop != self._hop or fault.site != "hop":
            return self._clean
        if fault.refusal is None and fault.kind not in self._lanes:
            raise TreniError(
                Code.FAILED_PRECONDITION,
                "lane_missing",
                expected=f"a fault that the schedule puts on the {self._hop} hop",
                got=fault.id,
                todo="open the lanes with the schedule that the attempts are annotated from",
                definite=True,
            )
        named = {metadata.RUN_ID: call.key.run_id, metadata.ATTEMPT: str(call.key.attempt)}
        self._deliveries.append_for(fault, fault.how(in_process=False), named)
        if fault.refusal is not None:
            raise injected(fault, fault.refusal.code, definite=True)
        return self._lanes[fault.kind]


@asynccontextmanager
async def open_http_lanes(
    toxiproxy_address: str,
    *,
    hop: Hop,
    upstream: str,
    schedule: Schedule | None,
    deliveries: DeliveryLog,
    network: tuple[Toxic, ...] = (),
) -> AsyncIterator[HttpLanes]:
    """The lanes to `upstream` ("host:port") while the block runs: a clean one, and one for each kind of the schedule.

    `network` are toxics on all of them. Raises as `ToxiproxyClient` does.
    """
    client = ToxiproxyClient(toxiproxy_address)
    on_this_hop = schedule is not None and schedule.hop == hop and schedule.site == "hop"
    async with AsyncExitStack() as proxies:

        async def opened(label: str, toxics: tuple[Toxic, ...]) -> str:
            name = f"{hop}-http-{label}-{secrets.token_hex(4)}"
            listen = f"{client.host}:0"
            proxy = await asyncio.to_thread(client.create_proxy, name, upstream=upstream, listen=listen)
            proxies.push_async_callback(_delete, client, name)
            for toxic in (*network, *toxics):
                await asyncio.to_thread(client.add_toxic, name, toxic)
            return proxy.listen

        clean = await opened("clean", ())
        lanes = {}
        for kind in schedule.kinds if schedule is not None and on_this_hop else ():
            delivery = kind.on_hop()
            if isinstance(delivery, Lane):
                lanes[kind] = await opened(kind.name, delivery.toxics)
        yield HttpLanes(hop, clean, lanes, deliveries)


async def _delete(client: ToxiproxyClient, name: str) -> None:
    try:
        await asyncio.to_thread(client.delete_proxy, name)
    except TreniError as error:
        # A server that is gone took its proxies along; leaving must not hide why we leave.
        _log.warning("could not delete proxy %s: %s", name, error)

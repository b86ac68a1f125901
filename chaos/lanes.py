"""Lanes: a hop's faulty connections, one for each kind of fault, kept warm beside its clean one.

A toxic acts on a connection and not on a request. So each kind gets a proxy and a channel of its own, and an
attempt is put on the lane of its fault: exact at any concurrency, and nothing happens in the timed path.

Who owns what: the process that holds the channels opens the lanes, given no more than the address of a toxiproxy
server. It must be the same process, since a stall's toxic may go in only after its channel has been warmed;
otherwise the stall would hold HTTP/2's own set-up instead of the request.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeAlias

import grpc

from chaos.deliveries import DeliveryLog
from chaos.emulation import joined
from chaos.faults import Fault, FaultKind, Hop, Lane, Toxic, fault_of
from chaos.schedule import Schedule
from chaos.toxiproxy import Proxy, ToxiproxyClient
from treni.channels import knock, open_channel
from treni.errors import Code, TreniError

WARM_TIMEOUT_S = 120.0
"""The limit, in seconds, for an upstream that is not there; one that is slow answers within it."""

_log = logging.getLogger("treni.chaos")

Metadata: TypeAlias = Iterable[tuple[str, str | bytes]]


@dataclass(frozen=True, kw_only=True, slots=True)
class _OpenLane:
    """A proxy and the warm channel through it; no channel where each attempt needs a connection of its own."""

    address: str
    channel: grpc.aio.Channel | None


class LaneChannel(grpc.aio.Channel):
    """A channel to one hop that puts each call on the lane of the fault in its metadata, else on the clean one.

    Hand it to a stub like any other. A call whose fault is for a lane that was not opened raises
    FAILED_PRECONDITION, and one whose fault cannot be read INVALID_ARGUMENT, before anything is sent.
    """

    def __init__(
        self,
        hop: Hop,
        upstream: str,
        clean: grpc.aio.Channel,
        lanes: Mapping[FaultKind, _OpenLane],
        deliveries: DeliveryLog,
    ) -> None:
        self._hop = hop
        self._upstream = upstream
        self._clean = clean
        self._lanes = lanes
        self._deliveries = deliveries
        self._closing: set[asyncio.Task[None]] = set()

    def unary_unary(self, *args: Any, **kwargs: Any) -> Any:
        """A callable as `grpc.aio.Channel.unary_unary` gives one, over the lane that each attempt asks for."""
        return self._callable(lambda channel: channel.unary_unary(*args, **kwargs))

    def unary_stream(self, *args: Any, **kwargs: Any) -> Any:
        """A callable as `grpc.aio.Channel.unary_stream` gives one, over the lane that each attempt asks for."""
        return self._callable(lambda channel: channel.unary_stream(*args, **kwargs))

    def stream_unary(self, *args: Any, **kwargs: Any) -> Any:
        """The clean lane's callable: no hop of ours streams requests."""
        return self._clean.stream_unary(*args, **kwargs)

    def stream_stream(self, *args: Any, **kwargs: Any) -> Any:
        """The clean lane's callable: no hop of ours streams requests."""
        return self._clean.stream_stream(*args, **kwargs)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """The clean lane's state."""
        return self._clean.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """Waits on the clean lane."""
        await self._clean.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        """Waits on the clean lane."""
        await self._clean.channel_ready()

    async def close(self, grace: float | None = None) -> None:
        """Closes every lane's channel; calls still out are cancelled after `grace` seconds."""
        for channel in [self._clean, *(lane.channel for lane in self._lanes.values())]:
            if channel is not None:
                await channel.close(grace)
        await asyncio.gather(*self._closing)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def _callable(self, make: Callable[[grpc.aio.Channel], Any]) -> Callable[..., Any]:
        clean = make(self._clean)

        def call(request: Any, *, metadata: Metadata | None = None, **options: Any) -> Any:
            pairs = tuple(metadata or ())
            fault = self._fault_in(dict(pairs))
            if fault is None:
                return clean(request, metadata=pairs, **options)
            lane = self._lanes[fault.kind]
            channel = _open_faulty(lane.address, self._upstream) if lane.channel is None else lane.channel
            self._deliveries.append_for(fault, "lane", dict(pairs))
            started = make(channel)(request, metadata=pairs, **options)
            if lane.channel is None:
                started.add_done_callback(lambda _: self._close_soon(channel))
            return started

        return call

    def _fault_in(self, pairs: Mapping[str, str | bytes]) -> Fault | None:
        """The fault that a lane is to deliver; None where there is none, or another layer's."""
        fault = fault_of(pairs)
        if fault is None or fault.how(in_process=False) != "lane":
            return None
        if fault.hop != self._hop or fault.kind not in self._lanes:
            raise TreniError(
                Code.FAILED_PRECONDITION,
                "lane_missing",
                expected=f"a fault that the schedule puts on the {self._hop} hop",
                got=fault.id,
                todo="open the lanes with the schedule that the attempts are annotated from",
                definite=True,
            )
        return fault

    def _close_soon(self, channel: grpc.aio.Channel) -> None:
        # Left open, it would go on connecting to a proxy that resets it.
        task = asyncio.ensure_future(channel.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


@asynccontextmanager
async def open_lanes(
    toxiproxy_address: str,
    *,
    hop: Hop,
    upstream: str,
    schedule: Schedule | None,
    deliveries: DeliveryLog,
    network: tuple[Toxic, ...] = (),
    interceptors: Sequence[grpc.aio.ClientInterceptor] = (),
) -> AsyncIterator[LaneChannel]:
    """One channel to `upstream` ("host:port", a gRPC server) with a lane for each fault the schedule can put there.

    Without a schedule, or with one for another hop or for another site, there is the clean lane alone, through a proxy
    too; the `interceptors` are its. `network` are toxics that every lane has, the clean one too. On leaving, the
    proxies go first, and with them all that a stall holds: it never reaches anyone. Raises `TreniError` if the
    toxiproxy server or the upstream does not answer, or a toxic does not read back.
    """
    client = ToxiproxyClient(toxiproxy_address)
    on_this_hop = schedule is not None and schedule.hop == hop and schedule.site == "hop"
    lanes: dict[FaultKind, _OpenLane] = {}
    async with AsyncExitStack() as channels, AsyncExitStack() as proxies:
        clean = await _open_lane(
            client, hop, "clean", upstream, None, network, channels, proxies, interceptors
        )
        assert clean.channel is not None
        for kind in schedule.kinds if schedule is not None and on_this_hop else ():
            lane = kind.on_hop()
            if isinstance(lane, Lane):
                lanes[kind] = await _open_lane(
                    client, hop, kind.name, upstream, lane, network, channels, proxies
                )
        channel = LaneChannel(hop, upstream, clean.channel, lanes, deliveries)
        channels.push_async_callback(channel.close)
        yield channel


async def _open_lane(
    client: ToxiproxyClient,
    hop: Hop,
    label: str,
    upstream: str,
    lane: Lane | None,
    network: tuple[Toxic, ...],
    channels: AsyncExitStack,
    proxies: AsyncExitStack,
    interceptors: Sequence[grpc.aio.ClientInterceptor] = (),
) -> _OpenLane:
    # The token keeps apart the lanes of two processes, or of one that died and was started again.
    name = f"{hop}-{label}-{secrets.token_hex(4)}"
    # Where the server is, not where we are: it may run on another host.
    proxy = await asyncio.to_thread(client.create_proxy, name, upstream=upstream, listen=f"{client.host}:0")
    proxies.push_async_callback(_delete, client, name)
    toxics = joined(network, () if lane is None else lane.toxics)
    if lane is not None and lane.fresh:
        await _add(client, name, toxics)
        return _OpenLane(address=proxy.listen, channel=None)
    channel = (
        open_channel(proxy.listen, interceptors=interceptors, service=upstream)
        if lane is None
        else _open_faulty(proxy.listen, upstream)
    )
    channels.push_async_callback(channel.close)
    await _warm(channel, proxy)
    await _add(client, name, toxics)
    return _OpenLane(address=proxy.listen, channel=channel)


async def _add(client: ToxiproxyClient, proxy: str, toxics: Iterable[Toxic]) -> None:
    for toxic in toxics:
        await asyncio.to_thread(client.add_toxic, proxy, toxic)


def _open_faulty(address: str, upstream: str) -> grpc.aio.Channel:
    # A stall holds the answer to a keepalive too: the connection would be given up, and a new one never come about.
    return open_channel(address, keepalive=False, service=upstream)


async def _warm(channel: grpc.aio.Channel, proxy: Proxy) -> None:
    """A round trip, so that both sides have acknowledged each other's HTTP/2 settings before a toxic holds them.

    Raises what keeps us from being let in, where something does, and UNAVAILABLE (`lane_not_warm`).
    """
    try:
        await knock(channel, proxy.listen, service=proxy.upstream, timeout_s=WARM_TIMEOUT_S)
    except grpc.aio.AioRpcError as error:
        raise TreniError(
            Code.UNAVAILABLE,
            "lane_not_warm",
            expected=f"the upstream {proxy.upstream} to answer through {proxy.name}",
            got=f"{error.code().name}: {error.details()}",
            todo="start the upstream before its lanes",
        ) from None


async def _delete(client: ToxiproxyClient, name: str) -> None:
    try:
        await asyncio.to_thread(client.delete_proxy, name)
    except TreniError as error:
        # A server that is gone took its proxies along; leaving must not hide why we leave.
        _log.warning("could not delete proxy %s: %s", name, error)

"""The caller's side of faults between hosts: an attempt with such a fault goes out once its host has been struck."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import grpc

from chaos.faults import fault_of
from treni import metadata
from treni.channels import open_channel
from treni.errors import Code, TreniError, from_rpc_error
from treni.v1 import host_pb2, host_pb2_grpc

Details: TypeAlias = "grpc.aio.ClientCallDetails"
Continuation: TypeAlias = Callable[..., Awaitable[Any]]


class _Striker:
    """Asks the host behind the hop to strike itself."""

    def __init__(self, channel: grpc.aio.Channel, role: str) -> None:
        self._stub = host_pb2_grpc.HostServiceStub(channel)
        self._role = role

    async def strike(self, details: Details) -> None:
        """Strikes where the call carries such a fault; the harm is done when this returns. Raises `TreniError`."""
        pairs = {str(key): value for key, value in details.metadata or ()}
        fault = fault_of(pairs)
        if fault is None or fault.site != "host":
            return
        attempt = pairs.get(metadata.ATTEMPT, "0")
        try:
            await self._stub.Strike(
                host_pb2.StrikeRequest(
                    fault=fault.encode(),
                    run_id=str(pairs.get(metadata.RUN_ID, "")),
                    attempt=int(attempt),
                    role=self._role,
                )
            )
        except grpc.aio.AioRpcError as error:
            told = from_rpc_error(error, hop=fault.hop)
            raise TreniError(
                Code.INTERNAL,
                "fault_not_struck",
                expected=f"the host of the {self._role} to strike itself with {fault.id}",
                got=str(told),
                todo="see the log of `treni-route serve host` there",
                definite=True,
                hop=fault.hop,
            ) from None


class _Unary(grpc.aio.UnaryUnaryClientInterceptor):
    def __init__(self, striker: _Striker) -> None:
        self._striker = striker

    async def intercept_unary_unary(self, continuation: Continuation, details: Details, request: Any) -> Any:
        await self._striker.strike(details)
        return await continuation(details, request)


class _Stream(grpc.aio.UnaryStreamClientInterceptor):
    def __init__(self, striker: _Striker) -> None:
        self._striker = striker

    async def intercept_unary_stream(self, continuation: Continuation, details: Details, request: Any) -> Any:
        await self._striker.strike(details)
        return await continuation(details, request)


@asynccontextmanager
async def striking(address: str, role: str) -> AsyncIterator[tuple[grpc.aio.ClientInterceptor, ...]]:
    """What a channel to the `role` needs so that its calls strike that role's host, whose HostService is at `address`.

    None for no address, where no fault of the schedule strikes a host.
    """
    if address == "":
        yield ()
        return
    async with open_channel(address) as channel:
        striker = _Striker(channel, role)
        yield (_Unary(striker), _Stream(striker))

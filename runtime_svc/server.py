"""The inference service over gRPC."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc

from runtime_svc.core import InferenceCore
from treni import serving
from treni.doors import OPEN, Door
from treni.errors import Code, TreniError
from treni.v1 import inference_pb2, inference_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]

SERVICE = inference_pb2.DESCRIPTOR.services_by_name["InferenceService"].full_name


class InferenceServicer(inference_pb2_grpc.InferenceServiceServicer):
    """Speaks for one `InferenceCore`."""

    def __init__(self, core: InferenceCore) -> None:
        self._core = core

    async def Generate(
        self, request: inference_pb2.GenerateRequest, context: Context
    ) -> AsyncIterator[inference_pb2.GenerateChunk]:
        """Streams the chunks. A client that goes away, or a deadline that passes, cancels the generation."""
        _check_deadline(context)
        chunks = self._core.generate(request)
        try:
            async for chunk in chunks:
                yield chunk
        finally:
            # gRPC cancels this handler in the middle of a yield; the core must hear of it now, not at the
            # garbage collector's convenience.
            await chunks.aclose()

    async def Embed(
        self, request: inference_pb2.EmbedRequest, context: Context
    ) -> inference_pb2.EmbedResponse:
        """Embeds the texts."""
        _check_deadline(context)
        return await self._core.embed(request)

    async def Info(self, request: inference_pb2.InfoRequest, context: Context) -> inference_pb2.InfoResponse:
        """Says what runs here. The first call reads the whole checkpoint, on another thread."""
        return await asyncio.to_thread(self._core.info)


def add_to(server: grpc.aio.Server, core: InferenceCore) -> str:
    """Adds the inference service to a server that has not started; the service's full name."""
    inference_pb2_grpc.add_InferenceServiceServicer_to_server(InferenceServicer(core), server)
    return str(SERVICE)


async def start(
    core: InferenceCore,
    *,
    port: int = 0,
    host: str = "127.0.0.1",
    interceptors: Sequence[grpc.aio.ServerInterceptor] = (),
    others: Sequence[serving.AddService] = (),
    door: Door = OPEN,
) -> serving.RunningServer:
    """A started server of inference and of `others`; port 0 picks a free one.

    Raises UNAVAILABLE when the address cannot be bound, INVALID_ARGUMENT where the `door` does not allow it.
    """
    return await serving.start(
        [lambda server: add_to(server, core), *others],
        host=host,
        port=port,
        interceptors=interceptors,
        door=door,
    )


def _check_deadline(context: Context) -> None:
    remaining = context.time_remaining()
    if remaining is not None and remaining <= 0:
        raise TreniError(
            Code.DEADLINE_EXCEEDED,
            "deadline_exceeded",
            expected="time left when the request arrives",
            got="a deadline that has passed",
            todo="send the request with a later deadline",
            definite=True,
        )

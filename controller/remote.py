"""The ports of external routing: the model and the tools over gRPC."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import NoReturn

import grpc

from controller.ports import MODEL_HOP, TOOL_HOP, Call, Connection
from treni import metadata
from treni.channels import open_channel as open_channel
from treni.errors import Code, TreniError, from_rpc_error
from treni.fence import pairs
from treni.limits import MODEL_REQUEST, TOOL_REQUEST
from treni.v1 import common_pb2, inference_pb2, inference_pb2_grpc, tools_pb2, tools_pb2_grpc


class RemoteModel:
    """A ModelPort over an InferenceService, that of the session `fence` ("": whichever). Does not own the channel."""

    def __init__(self, channel: grpc.aio.Channel, *, fence: str = "") -> None:
        self._channel = channel
        self._fence = pairs(fence)
        self._stub = inference_pb2_grpc.InferenceServiceStub(channel)

    async def generate(
        self, request: inference_pb2.GenerateRequest, call: Call
    ) -> AsyncGenerator[inference_pb2.GenerateChunk, None]:
        """Streams a completion; the deadline and the attempt's names travel with the call."""
        MODEL_REQUEST.check(request.ByteSize())
        call.observed.connection = _connection(self._channel, call)
        stream = self._stub.Generate(
            request,
            timeout=call.deadline.remaining_s(),
            metadata=(*self._fence, *_metadata(call)),
            wait_for_ready=False,
        )
        try:
            while True:
                chunk = await stream.read()
                if not isinstance(chunk, inference_pb2.GenerateChunk):
                    return
                yield chunk
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, hop=MODEL_HOP) from None
        except asyncio.CancelledError:
            _reraise_if_ours(MODEL_HOP)
        finally:
            # Of no effect on a stream that has ended; otherwise the model must not work on for nobody.
            stream.cancel()


class RemoteTools:
    """A ToolPort over a ToolService, that of the session `fence` ("": whichever).

    Does not own the channel. Asks for the list of tools only once.
    """

    def __init__(self, channel: grpc.aio.Channel, *, fence: str = "") -> None:
        self._channel = channel
        self._fence = pairs(fence)
        self._stub = tools_pb2_grpc.ToolServiceStub(channel)
        self._specs: tuple[common_pb2.ToolSpec, ...] | None = None

    async def specs(self, *, timeout_s: float) -> Sequence[common_pb2.ToolSpec]:
        """The tools as the service listed them the first time it was reached."""
        if self._specs is None:
            try:
                listed = await self._stub.List(
                    tools_pb2.ListToolsRequest(), timeout=timeout_s, metadata=self._fence
                )
            except grpc.aio.AioRpcError as error:
                raise from_rpc_error(error, hop=TOOL_HOP) from None
            self._specs = tuple(listed.tools)
        return self._specs

    async def call(self, request: tools_pb2.CallToolRequest, call: Call) -> tools_pb2.CallToolResponse:
        """Runs one tool; the deadline and the attempt's names travel with the call."""
        TOOL_REQUEST.check(request.ByteSize())
        call.observed.connection = _connection(self._channel, call)
        rpc = self._stub.Call(
            request,
            timeout=call.deadline.remaining_s(),
            metadata=(*self._fence, *_metadata(call)),
            wait_for_ready=False,
        )
        try:
            return await rpc
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, hop=TOOL_HOP) from None
        except asyncio.CancelledError:
            _reraise_if_ours(TOOL_HOP)
        finally:
            rpc.cancel()


def _connection(channel: grpc.aio.Channel, call: Call) -> Connection:
    if metadata.FAULT in call.metadata:
        return "faulted"
    return "reused" if channel.get_state() is grpc.ChannelConnectivity.READY else "new"


def _metadata(call: Call) -> tuple[tuple[str, str], ...]:
    key = call.key
    return (
        (metadata.RUN_ID, key.run_id),
        (metadata.REQUEST_INDEX, str(key.request_index)),
        (metadata.CALL_INDEX, str(key.call_index)),
        (metadata.ATTEMPT, str(key.attempt)),
        *call.metadata.items(),
    )


def _reraise_if_ours(hop: str) -> NoReturn:
    """Inside an `except CancelledError`: goes on with it if this task is being cancelled.

    gRPC raises the same for a call that something else cancelled, which is only a failed call here.
    """
    task = asyncio.current_task()
    if task is None or task.cancelling() > 0:
        raise
    raise TreniError(
        Code.CANCELLED,
        "cancelled",
        expected=f"the {hop} hop to answer",
        got="a cancelled call",
        todo="see why the call was cancelled on the way",
        hop=hop,
    ) from None

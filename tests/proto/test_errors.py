"""What an error proves: only a service of ours can say that nothing happened."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from controller.policy import Disposition, disposition_of
from tests.limits import HANG_S
from treni import metadata
from treni.channels import open_channel
from treni.errors import Code, TreniError, from_rpc_error
from treni.limits import ANSWER_BYTES
from treni.v1 import tools_pb2, tools_pb2_grpc

RETRIED = {Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED}


class Foreign(tools_pb2_grpc.ToolServiceServicer):
    """A server that is none of ours: it ends calls with bare statuses, and answers at any length."""

    def __init__(self) -> None:
        self.code: Code | None = None
        self.calls = 0

    async def Call(self, request: Any, context: Any) -> tools_pb2.CallToolResponse:
        self.calls += 1
        if self.code is not None:
            await context.abort(self.code, "in a server's own words")
        return tools_pb2.CallToolResponse(result_json="x" * (ANSWER_BYTES + 1))

    async def List(self, request: Any, context: Any) -> tools_pb2.ListToolsResponse:
        raise NotImplementedError  # nobody asks it


@asynccontextmanager
async def foreign() -> AsyncIterator[tuple[Foreign, str]]:
    servicer = Foreign()
    server = grpc.aio.server(options=metadata.SERVER_OPTIONS)
    tools_pb2_grpc.add_ToolServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield servicer, f"127.0.0.1:{port}"
    await server.stop(0)


async def failure(channel: grpc.aio.Channel) -> TreniError:
    call = tools_pb2_grpc.ToolServiceStub(channel).Call(tools_pb2.CallToolRequest(), timeout=HANG_S)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return from_rpc_error(caught.value, hop="tool")


@pytest.mark.parametrize("code", [code for code in Code if code is not Code.OK])
def test_what_can_come_after_the_work_was_done_proves_nothing(code: Code) -> None:
    """A crash, a deadline or a caller who left come at any time; every other status of ours is a refusal beforehand."""
    after = {"CANCELLED", "DATA_LOSS", "DEADLINE_EXCEEDED", "INTERNAL", "UNAVAILABLE", "UNKNOWN"}
    error = TreniError(code, "k", expected="e", got="g", todo="t")
    assert error.definite == (code.name not in after)
    assert error.to_detail().definite == error.definite


async def test_a_status_without_our_details_proves_nothing_whatever_its_code() -> None:
    async with foreign() as (servicer, address), open_channel(address) as channel:
        for code in set(Code) - {Code.OK}:
            servicer.code = code
            error = await failure(channel)
            assert (error.code, error.definite, error.foreign) == (code, False, True)
            assert (disposition_of(error, effects=True) is Disposition.RETRY) == (code in RETRIED)
            assert disposition_of(error, effects=True) is not Disposition.REFUSED


async def test_an_answer_that_the_client_finds_too_long_may_have_been_worked_for() -> None:
    async with foreign() as (servicer, address), open_channel(address) as channel:
        error = await failure(channel)
        assert (error.code, error.definite, error.foreign) == (Code.RESOURCE_EXHAUSTED, False, True)
        for effects in (True, False):
            assert disposition_of(error, effects=effects) is Disposition.FATAL
        assert servicer.calls == 1

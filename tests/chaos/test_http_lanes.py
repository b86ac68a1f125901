"""Lanes of a plain HTTP hop through a real toxiproxy server: each fault strikes the attempt that it is planned for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest

from chaos.deliveries import DeliveryLog, read_deliveries
from chaos.faults import Fault, FaultKind, Latency, Reset, Stall, Status, Struck
from chaos.http_lanes import open_http_lanes
from chaos.schedule import Rule, Schedule
from chaos.toxiproxy import ToxiproxyServer
from chaos.when import Every
from controller.deadline import Deadline
from controller.endpoint.model import Endpoint, open_endpoint
from controller.ports import AttemptKey, Call
from treni.errors import TreniError
from treni.v1 import common_pb2, inference_pb2

pytestmark = pytest.mark.chaos

TIMEOUT_S = 2.0
KINDS: tuple[FaultKind, ...] = (
    Status(code="RESOURCE_EXHAUSTED"),
    Reset(),
    Stall(direction="request"),
    Stall(direction="response"),
    Latency(delay_ms=300),
)
ANSWER = b'data: {"choices": [{"delta": {"content": "yes"}, "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n'


@pytest.fixture
async def upstream() -> AsyncIterator[tuple[str, list[str]]]:
    """A server that answers every completion with "yes", and the hosts that it was asked for."""
    asked: list[str] = []

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                await reader.readexactly(int(head.split("content-length:")[1].split("\r\n")[0]))
                asked.append(head.split("\r\nhost:")[1].split("\r\n")[0].strip())
                kind = f"Content-Type: text/event-stream\r\nContent-Length: {len(ANSWER)}"
                writer.write(f"HTTP/1.1 200 OK\r\n{kind}\r\n\r\n".encode() + ANSWER)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}", asked
    server.close()


async def test_each_kind_ends_its_attempt_as_it_says_and_no_other(
    upstream: tuple[str, list[str]], tmp_path: Path
) -> None:
    address, asked = upstream
    host = f"localhost:{address.rpartition(':')[2]}"
    schedule = Schedule(
        prefix="m",
        hop="model",
        by="request",
        rules=tuple(Rule(kind=kind, when=Every(every=99)) for kind in KINDS),
    )
    proxies = await ToxiproxyServer.start(log_path=tmp_path / "toxiproxy.log")
    async with proxies:
        with DeliveryLog(tmp_path / "deliveries.jsonl") as log:
            async with (
                open_http_lanes(
                    proxies.address, hop="model", upstream=address, schedule=schedule, deliveries=log
                ) as lanes,
                open_endpoint(Endpoint(url=f"http://{host}/v1", model="m"), lanes, proxied=True) as model,
            ):

                async def attempt(
                    number: int, kind: FaultKind | None
                ) -> tuple[str, TreniError | None, float, str]:
                    key = AttemptKey(
                        hop="model", run_id=f"run/{number}", request_index=number, call_index=0, attempt=0
                    )
                    marks = (
                        {}
                        if kind is None
                        else Fault(id=f"f{number}", site="hop", hop="model", kind=kind).to_metadata()
                    )
                    call = Call(key=key, deadline=Deadline.after(TIMEOUT_S), metadata=marks)
                    request = inference_pb2.GenerateRequest(
                        messages=[common_pb2.Message(role="user", content="?")]
                    )
                    text, error = "", None
                    began_s = asyncio.get_running_loop().time()
                    try:
                        async with aclosing(model.generate(request, call)) as chunks:
                            async for chunk in chunks:
                                text += chunk.text
                    except TreniError as raised:
                        error = raised
                    took_s = asyncio.get_running_loop().time() - began_s
                    return text, error, took_s, call.observed.connection

                every = [None, *KINDS, None, *KINDS]
                ended = await asyncio.gather(*(attempt(number, kind) for number, kind in enumerate(every)))
    for kind, (text, error, took_s, connection) in zip(every, ended, strict=True):
        if kind is None:
            assert (text, error, connection) == ("yes", None, "new")
            continue
        ending = kind.ending(Struck(timeout_s=TIMEOUT_S))
        assert connection == "faulted"
        assert took_s >= ending.least_s - 0.001
        if error is None:
            assert (ending.outcome, text) == ("ok", "yes")
        else:
            assert (error.code.name, error.definite) == (ending.code, ending.outcome == "fail")
            assert error.kind in ending.kinds
    # Refusals, resets and stalled requests never arrive; answers that are lost, or late, are answers.
    assert asked == [host] * 6
    handed_out = {row.fault_id: row.how for row in read_deliveries(tmp_path / "deliveries.jsonl")}
    assert len(handed_out) == 10
    assert [handed_out[f"f{number}"] for number in (1, 2, 3, 4, 5)] == ["injector", *["lane"] * 4]

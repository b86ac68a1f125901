"""Traces as processes keep them: who is believed about a trace, what is dropped, and what a kill leaves."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace import TracerProvider

from controller.deadline import Deadline
from controller.ports import AttemptKey, Call
from controller.remote import RemoteTools
from matrices.evidence.traces import Span, read_traces
from tests.limits import HANG_S
from tools_svc.protocol import ToolsConfig
from tools_svc.server import start
from treni import otel, tracing
from treni.channels import open_channel, open_http
from treni.errors import TreniError
from treni.trace_options import ENDPOINT_VARIABLE, PATH_VARIABLE, traced
from treni.v1 import tools_pb2, tools_pb2_grpc

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"
VALID = f"00-{TRACE}-{PARENT}-01"
HOSTILE = (
    "",
    "x",
    f"00-{'0' * 32}-{PARENT}-01",
    f"00-{TRACE}-{'0' * 16}-01",
    f"00-{TRACE.upper()}-{PARENT}-01",
    f"ff-{TRACE}-{PARENT}-01",
    f"00-{TRACE}-{PARENT}-01-more",
    f"00-{TRACE}-{PARENT}",
    VALID * 10,
    "0" * 4000,
)
ASK = tools_pb2.CallToolRequest(name="calculator", arguments_json='{"expression": "6 * 7"}')


def spans_in(folder: Path) -> list[Span]:
    """Every span that was kept in the folder."""
    return [span for trace in read_traces(folder).by_id.values() for span in trace.spans]


@contextmanager
def tracer() -> Iterator[tracing.Tracer]:
    yield otel.OtelTracer(TracerProvider(shutdown_on_exit=False))


@given(
    headers=st.lists(
        st.tuples(st.sampled_from(["traceparent", "tracestate", "other"]), st.text() | st.binary()),
        max_size=4,
    )
)
def test_whatever_a_caller_says_of_its_trace_there_is_a_span(
    headers: list[tuple[str, str | bytes]],
) -> None:
    with tracer() as by:
        span = by.receive("served", {}, headers)
        before = by.enter(span)
        try:
            assert len(by.trace_id() or "") == 32
            assert dict(by.headers())["traceparent"].split("-")[1] == by.trace_id()
        finally:
            by.leave(before)


@pytest.mark.parametrize("given_twice", [False, True])
def test_a_caller_s_trace_goes_on_and_one_that_says_two_things_is_not_believed(given_twice: bool) -> None:
    with tracer() as by:
        headers = [("traceparent", VALID), ("tracestate", "vendor=1")]
        span = by.receive("served", {}, [*headers, ("traceparent", VALID)] if given_twice else headers)
        before = by.enter(span)
        try:
            assert (by.trace_id() == TRACE) is not given_twice
            assert (dict(by.headers()).get("tracestate") == "vendor=1") is not given_twice
        finally:
            by.leave(before)


def test_a_caller_s_own_state_is_not_passed_on_where_it_is_large() -> None:
    with tracer() as by:
        large = ",".join(f"vendor{n}={'x' * 200}" for n in range(4))
        span = by.receive("served", {}, [("traceparent", VALID), ("tracestate", large)])
        before = by.enter(span)
        try:
            assert by.trace_id() == TRACE
            assert "tracestate" not in dict(by.headers())
        finally:
            by.leave(before)


def test_a_trace_that_its_caller_does_not_keep_has_no_id_to_show() -> None:
    with tracer() as by:
        before = by.enter(by.receive("served", {}, [("traceparent", VALID[:-1] + "0")]))
        try:
            assert by.trace_id() is None
        finally:
            by.leave(before)


async def test_hostile_headers_are_never_an_error_of_the_call(tmp_path: Path) -> None:
    with traced("test", path=tmp_path / "traces", endpoint=""):
        server = await start(ToolsConfig(ledger_path=tmp_path / "ledger.sqlite"))
        try:
            async with open_channel(server.address) as channel:
                call = tools_pb2_grpc.ToolServiceStub(channel).Call
                for header in (VALID, *HOSTILE):
                    pairs = (("traceparent", header), ("tracestate", header), ("tracestate", "=" * 600))
                    answer = await call(ASK, metadata=pairs, timeout=HANG_S)
                    assert json.loads(answer.result_json) == {"value": 42}
        finally:
            await server.stop()
    served = [span for span in spans_in(tmp_path / "traces") if span.kind == "server"]
    assert len(served) == 1 + len(HOSTILE)
    assert [span.parent for span in served if span.trace_id == TRACE] == [PARENT]
    assert all(span.parent == "" for span in served if span.trace_id != TRACE)


async def test_a_hop_over_grpc_is_one_trace_from_the_caller_to_the_tool(tmp_path: Path) -> None:
    with traced("test", path=tmp_path / "traces", endpoint=""):
        by = tracing.tracer()
        assert by is not None
        server = await start(ToolsConfig(ledger_path=tmp_path / "ledger.sqlite"))
        try:
            async with open_channel(server.address) as channel:
                key = AttemptKey(hop="tool", run_id="r", request_index=0, call_index=0, attempt=3)
                with tracing.Working(by, by.start("caller", {}, kind="client")):
                    trace_id = tracing.current_trace_id()
                    await RemoteTools(channel).call(ASK, Call(key=key, deadline=Deadline.after(HANG_S)))
                bad = tools_pb2.CallToolRequest(name="calculator", arguments_json="{}")
                with pytest.raises(TreniError):
                    await RemoteTools(channel).call(bad, Call(key=key, deadline=Deadline.after(HANG_S)))
        finally:
            await server.stop()
    assert tracing.current_trace_id() is None
    spans = {span.name: span for span in spans_in(tmp_path / "traces") if span.trace_id == trace_id}
    assert {
        name: spans[name].parent for name in ("caller", "treni.v1.ToolService/Call", "tool calculator")
    } == {
        "caller": "",
        "treni.v1.ToolService/Call": spans["caller"].id,
        "tool calculator": spans["treni.v1.ToolService/Call"].id,
    }
    assert spans["treni.v1.ToolService/Call"].attributes["treni.attempt"] == 3
    (failed,) = (span for span in spans_in(tmp_path / "traces") if span.failed)
    assert failed.attributes["error.type"] == "arguments_invalid"


async def test_a_request_over_http_carries_the_trace(tmp_path: Path) -> None:
    heard: list[str] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append((await reader.readuntil(b"\r\n\r\n")).decode().lower())
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        async with open_http() as client:
            await client.get(url)
        with traced("test", path=tmp_path, endpoint=""):
            by = tracing.tracer()
            assert by is not None
            async with open_http() as client:
                with tracing.Working(by, by.start("caller", {})):
                    trace_id = by.trace_id()
                    await client.get(url)
    assert "traceparent" not in heard[0]
    assert f"traceparent: 00-{trace_id}-" in heard[1]


def ended(count: int) -> None:
    """Makes so many spans of the current tracer's."""
    by = tracing.tracer()
    assert by is not None
    for n in range(count):
        by.start("work", {"n": n}).end()


def dropped(caplog: pytest.LogCaptureFixture) -> dict[str, Any]:
    """What was told at the end."""
    (told,) = (record for record in caplog.records if record.getMessage() == "spans were dropped")
    return vars(told)


def test_an_endpoint_where_nobody_listens_is_told_once_at_the_end(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(otel, "END_LIMIT_S", 0.1)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with caplog.at_level(logging.INFO), traced("test", path=None, endpoint=endpoint):
            ended(100)
    assert (dropped(caplog)["spans"], dropped(caplog)["dropped"]) == (100, 100)
    assert len([record for record in caplog.records if record.name.startswith("opentelemetry")]) == 0


def test_an_endpoint_that_never_answers_holds_nobody_up_and_its_queue_is_bounded(
    caplog: pytest.LogCaptureFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(otel, "END_LIMIT_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # who connects waits in its backlog
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with traced("test", path=tmp_path, endpoint=endpoint):
            ended(10_000)
    # To the file went what its queue could take, in the time that it had; of the endpoint's nothing did.
    told = {
        record.__dict__["to"]: record.__dict__ for record in caplog.records if "dropped" in record.__dict__
    }
    assert told[f"{endpoint}/v1/traces"]["dropped"] == 10_000
    kept = 10_000 - told.get(next(iter(map(str, tmp_path.iterdir()))), {"dropped": 0})["dropped"]
    assert 0 < kept <= len(spans_in(tmp_path))


def test_spans_arrive_at_an_endpoint(tmp_path: Path) -> None:
    got: list[bytes] = []

    async def scenario() -> None:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            length = int(head.partition("content-length:")[2].split()[0])
            got.append(head.encode() + await reader.readexactly(length))
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            await writer.drain()
            writer.close()

        def send(endpoint: str) -> None:
            with traced("test", path=None, endpoint=endpoint):
                ended(3)

        async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
            await asyncio.to_thread(send, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")

    asyncio.run(scenario())
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    names = []
    for request in got:
        head, _, body = request.partition(b"\r\n\r\n")
        assert b"post /v1/traces" in head
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            names += [span.name for scope in resource.scope_spans for span in scope.spans]
    assert names == ["work"] * 3


@pytest.mark.parametrize(
    ("endpoint", "protocol", "kind"),
    [
        ("127.0.0.1:4318", None, "trace_endpoint_invalid"),
        ("file:///tmp/x", None, "trace_endpoint_invalid"),
        ("http://", None, "trace_endpoint_invalid"),
        ("http://127.0.0.1:4317", "grpc", "trace_protocol_unsupported"),
    ],
)
def test_what_cannot_be_an_endpoint_is_told_before_anything_runs(
    endpoint: str, protocol: str | None, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if protocol is not None:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
    with pytest.raises(TreniError) as caught, traced("test", path=None, endpoint=endpoint):
        pytest.fail("it ran")
    assert caught.value.kind == kind


def test_a_path_that_cannot_be_written_is_told_before_anything_runs(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TreniError) as caught, traced("test", path=tmp_path / "file" / "in", endpoint=""):
        pytest.fail("it ran")
    assert caught.value.kind == "path_unusable"


def test_the_environment_is_for_those_that_the_block_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    monkeypatch.delenv(PATH_VARIABLE, raising=False)
    monkeypatch.setenv(ENDPOINT_VARIABLE, "http://127.0.0.1:1")
    with traced("test", path=tmp_path / "here", endpoint=""):
        assert os.environ[PATH_VARIABLE] == str(tmp_path / "here")
        assert ENDPOINT_VARIABLE not in os.environ
    assert PATH_VARIABLE not in os.environ
    assert os.environ[ENDPOINT_VARIABLE] == "http://127.0.0.1:1"


def test_two_processes_with_one_number_do_not_share_a_file(tmp_path: Path) -> None:
    for _ in range(2):
        with traced("test", path=tmp_path, endpoint=""):
            ended(1)
    assert len(list(tmp_path.iterdir())) == 2
    assert len(spans_in(tmp_path)) == 2


def test_a_service_that_was_killed_leaves_what_it_did_before(tmp_path: Path) -> None:
    traces = tmp_path / "traces"
    command = [sys.executable, "-m", "tools_svc", "--ledger", str(tmp_path / "ledger.sqlite")]
    process = subprocess.Popen([*command, "--trace", str(traces)], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        address = json.loads(process.stdout.readline())["address"]

        async def ask() -> None:
            async with open_channel(address) as channel:
                await tools_pb2_grpc.ToolServiceStub(channel).Call(ASK, timeout=HANG_S)

        asyncio.run(ask())
        (file,) = traces.iterdir()
        deadline_s = time.monotonic() + HANG_S
        while file.stat().st_size == 0:
            assert time.monotonic() < deadline_s, "no span was ever written"
            time.sleep(0.01)
    finally:
        process.kill()
        process.wait()
    assert {span.name for span in spans_in(traces)} == {"treni.v1.ToolService/Call", "tool calculator"}
    assert {span.service for span in spans_in(traces)} == {"tools"}


def test_where_nobody_traces_opentelemetry_is_not_imported() -> None:
    modules = (
        "controller.__main__, runtime_svc.__main__, tools_svc.__main__, matrices.cli.matrix, treni.http_spans"
    )
    script = f"import sys, {modules}\nassert not [name for name in sys.modules if 'opentelemetry' in name]"
    subprocess.run([sys.executable, "-c", script], check=True)


def test_the_extra_is_asked_for_where_it_is_missing(tmp_path: Path) -> None:
    script = (
        "import sys\nsys.modules['opentelemetry'] = None\nsys.argv = ['tools', *sys.argv[1:]]\n"
        "from tools_svc.__main__ import main\nmain()"
    )
    arguments = ["--ledger", str(tmp_path / "ledger.sqlite"), "--trace", str(tmp_path / "traces")]
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True)
    assert done.returncode == 1
    assert "pip install 'treni-route[trace]'" in done.stderr
    assert "Traceback" not in done.stderr

"""Metrics of hops at both ends of real calls, what is off when they are off, and the pages over HTTP."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from tests.limits import HANG_S
from treni import metrics, metrics_page, serving
from treni.channels import open_channel
from treni.errors import Code, TreniError, invalid_argument
from treni.metrics_rpc import ClientMetrics, ServerMetrics, counted, server_interceptors
from treni.v1 import agent_pb2, agent_pb2_grpc, tools_pb2, tools_pb2_grpc

TRACE = "0af7651916cd43dd8448eb211c80319c"


@pytest.fixture
def page() -> Iterator[metrics.Page]:
    yield metrics.switch_on()
    metrics.switch_off()
    metrics.work_for("", {})
    metrics.trace_ids_from(str)


class Tools(tools_pb2_grpc.ToolServiceServicer):
    """Answers, refuses, or waits until it is cancelled, by the name of the tool."""

    async def List(
        self, request: tools_pb2.ListToolsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> tools_pb2.ListToolsResponse:
        return tools_pb2.ListToolsResponse()

    async def Call(
        self, request: tools_pb2.CallToolRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> tools_pb2.CallToolResponse:
        if request.name == "wrong":
            raise invalid_argument("wrong_on_purpose", expected="another", got="wrong")
        if request.name == "slow":
            await asyncio.Event().wait()
        return tools_pb2.CallToolResponse(result_json="{}")


class Agent(agent_pb2_grpc.AgentServiceServicer):
    """Streams two events, by a generator."""

    async def Run(self, request: agent_pb2.RunRequest, context: Any) -> Any:
        for text in ("one", "two"):
            yield agent_pb2.RunEvent(text=agent_pb2.TextDelta(text=text))


async def served() -> serving.RunningServer:
    def add(server: grpc.aio.Server) -> str:
        tools_pb2_grpc.add_ToolServiceServicer_to_server(Tools(), server)
        agent_pb2_grpc.add_AgentServiceServicer_to_server(Agent(), server)
        return "treni.v1.ToolService"

    return await serving.start([add])


async def settled(page: metrics.Page, name: str, labels: dict[str, str], wanted: float) -> None:
    """Waits until a sample is that: what is put down comes after the caller has its answer."""
    async with asyncio.timeout(HANG_S):
        while page.registry.get_sample_value(name, labels) != wanted:  # noqa: ASYNC110
            await asyncio.sleep(0.001)


async def test_both_ends_count_what_went_well_and_what_did_not_by_code_and_kind(page: metrics.Page) -> None:
    metrics.work_for("p01", {"tool": "external", "agent": "external"})
    server = await served()
    try:
        async with open_channel(server.address) as channel:
            tools = tools_pb2_grpc.ToolServiceStub(channel)
            await tools.Call(tools_pb2.CallToolRequest(name="right"))
            with pytest.raises(grpc.aio.AioRpcError):
                await tools.Call(tools_pb2.CallToolRequest(name="wrong"))
            with pytest.raises(grpc.aio.AioRpcError):
                await tools.Call(tools_pb2.CallToolRequest(name="slow"), timeout=0.2)
            streamed = agent_pb2_grpc.AgentServiceStub(channel).Run(agent_pb2.RunRequest())
            assert [event.text.text async for event in streamed] == ["one", "two"]
            labels = {"hop": "tool", "arm": "external", "profile": "p01"}
            for side in ("server", "client"):
                for code in ("OK", "INVALID_ARGUMENT"):
                    of_code = {**labels, "code": code}
                    await settled(page, f"treni_rpc_{side}_requests_total", of_code, 1)
                wrong = {**labels, "code": "INVALID_ARGUMENT", "kind": "wrong_on_purpose"}
                await settled(page, f"treni_rpc_{side}_errors_total", wrong, 1)
                await settled(page, f"treni_rpc_{side}_request_seconds_count", labels, 3)
                await settled(page, f"treni_rpc_{side}_in_flight", {"hop": "tool"}, 0)
                agent = {**labels, "hop": "agent"}
                await settled(page, f"treni_rpc_{side}_requests_total", {**agent, "code": "OK"}, 1)
            late = {**labels, "code": "DEADLINE_EXCEEDED", "kind": "deadline_exceeded"}
            await settled(page, "treni_rpc_client_errors_total", late, 1)
            await settled(page, "treni_rpc_server_requests_total", {**labels, "code": "CANCELLED"}, 1)
    finally:
        await server.stop(grace_s=0)


async def test_a_refusal_of_the_guard_is_counted_though_no_service_saw_the_call(page: metrics.Page) -> None:
    server = await served()
    try:
        async with open_channel(server.address) as channel:
            raw: Any = channel.unary_unary("/treni.v1.ToolService/Call")
            with pytest.raises(grpc.aio.AioRpcError):
                await raw(b"\xff\xff\xff")
            labels = {"hop": "tool", "arm": "", "profile": "", "code": "INVALID_ARGUMENT"}
            await settled(page, "treni_rpc_server_requests_total", labels, 1)
            malformed = {**labels, "kind": "request_malformed"}
            await settled(page, "treni_rpc_server_errors_total", malformed, 1)
            await settled(page, "treni_rpc_client_errors_total", malformed, 1)
    finally:
        await server.stop(grace_s=0)


async def test_calls_that_are_no_hop_are_not_counted(page: metrics.Page) -> None:
    server = await served()
    try:
        async with open_channel(server.address) as channel:
            health: Any = channel.unary_unary("/grpc.health.v1.Health/Check")
            await health(b"")
        page.part(ServerMetrics)
        assert b"Health" not in page.text()
        assert b"treni_rpc_server_requests_total{" not in page.text()
    finally:
        await server.stop(grace_s=0)


async def test_nothing_stands_in_the_way_where_metrics_are_off() -> None:
    assert not metrics.on()
    assert server_interceptors() == ()
    async with grpc.aio.insecure_channel("127.0.0.1:1") as channel:
        assert counted(channel) is channel
    assert metrics_page.asked() == []
    with metrics_page.serving_metrics(None) as told:
        assert told == {}
        assert not metrics.on()


async def test_an_exemplar_names_the_trace_for_who_takes_openmetrics(page: metrics.Page) -> None:
    metrics.trace_ids_from(lambda: TRACE)
    exposed = metrics_page.serve(page, port=0)
    server = await served()
    try:
        async with open_channel(server.address) as channel:
            await tools_pb2_grpc.ToolServiceStub(channel).Call(tools_pb2.CallToolRequest(name="right"))
            labels = {"hop": "tool", "arm": "", "profile": ""}
            for side in ("server", "client"):
                await settled(page, f"treni_rpc_{side}_request_seconds_count", labels, 1)
        accept = {"Accept": "application/openmetrics-text; version=1.0.0"}
        asked = urllib.request.Request(exposed.address, headers=accept)
        text = (await asyncio.to_thread(urllib.request.urlopen, asked)).read().decode()
    finally:
        await server.stop(grace_s=0)
        exposed.stop()
    found = {
        family.name: {sample.exemplar.labels["trace_id"] for sample in family.samples if sample.exemplar}
        for family in text_string_to_metric_families(text)  # type: ignore[no-untyped-call]
    }
    assert found["treni_rpc_server_request_seconds"] == found["treni_rpc_client_requests"] == {TRACE}


def test_without_a_trace_there_is_no_exemplar() -> None:
    assert metrics.exemplar() == {}


def test_a_port_that_is_taken_is_a_typed_error() -> None:
    taken = metrics_page.serve(metrics.Page(), port=0)
    try:
        with pytest.raises(TreniError) as caught:
            metrics_page.serve(metrics.Page(), port=int(taken.address.split(":")[2].split("/")[0]))
        assert (caught.value.code, caught.value.kind) == (Code.UNAVAILABLE, "address_not_bound")
    finally:
        taken.stop()


def test_the_list_of_targets_has_who_is_there_now(tmp_path: Path) -> None:
    path = tmp_path / "new" / "targets.json"
    metrics_page.list_targets(path)
    try:
        gone = metrics_page.listed("tools", {"metrics": "http://127.0.0.1:9401/metrics"})
        metrics_page.listed("runtime", {"metrics": "http://127.0.0.1:9402/metrics"})
        metrics_page.listed("host", {"address": "127.0.0.1:1"})
        tools = {"targets": ["127.0.0.1:9401"], "labels": {"role": "tools"}}
        runtime = {"targets": ["127.0.0.1:9402"], "labels": {"role": "runtime"}}
        assert json.loads(path.read_text(encoding="utf-8")) == [tools, runtime]
        gone()
        assert json.loads(path.read_text(encoding="utf-8")) == [runtime]
    finally:
        metrics_page.list_nowhere()


def test_kinds_of_error_that_somebody_makes_up_do_not_fill_the_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(metrics, "_kinds", set[str]())
    kinds = {metrics.bounded_kind(f"kind_{number}") for number in range(10 * metrics.MOST_KINDS)}
    assert len(kinds) == metrics.MOST_KINDS + 1
    assert metrics.bounded_kind("kind_0") == "kind_0"
    for odd in ("", "a b", "x" * 65, 'q"uote'):
        assert metrics.bounded_kind(odd) == "other"


def test_a_page_is_asked_for_its_parts_once(page: metrics.Page) -> None:
    assert metrics.of(ClientMetrics) is page.part(ClientMetrics)
    assert len([one for one in page.described if one.name == "treni_rpc_client_requests_total"]) == 1

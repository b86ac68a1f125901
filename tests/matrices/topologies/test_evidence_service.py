"""What a role of a testbed does when it is asked: begins and ends cells, keeps evidence apart, and tells it whole."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import grpc
import pytest

from chaos.deliveries import DeliveryLog
from chaos.faults import Fault, Status
from matrices.spec.profiles import select_profiles
from matrices.topologies import roles
from matrices.topologies.cell_config import CellConfig, parse_config
from matrices.topologies.evidence_service import SERVICE, EvidenceServicer
from matrices.topologies.processes import Child, start_child
from matrices.topologies.role_client import RoleClient, reading
from matrices.topologies.role_command import TESTBED_MODULE
from matrices.topologies.roles import deliveries_path
from treni import serving
from treni.channels import open_channel
from treni.errors import Code, TreniError
from treni.v1 import evidence_pb2, evidence_pb2_grpc, tools_pb2, tools_pb2_grpc

Open = Callable[..., Awaitable[RoleClient]]


def config(**changes: object) -> CellConfig:
    (profile,) = select_profiles("p04")
    made = CellConfig(
        cell="p04",
        role="tools",
        arm="external",
        agent=None,
        faultable=("tool",),
        model=False,
        tools=True,
        caller="external",
        profile=profile,
        cycle=None,
        seed=3,
        concurrency=1,
        starts={"tool": 5},
    )
    return made.model_copy(update=changes)


async def no_twin(number: int) -> Child:
    raise AssertionError("nobody asked for one")


@asynccontextmanager
async def serving_tools(state: Path) -> AsyncIterator[RoleClient]:
    servicer = EvidenceServicer(
        role="tools", open_cell=roles.open_tools(), state=state, host="127.0.0.1", start_twin=no_twin
    )

    def add(server: grpc.aio.Server) -> str:
        evidence_pb2_grpc.add_EvidenceServiceServicer_to_server(servicer, server)
        return SERVICE

    server = await serving.start([add])
    client = RoleClient("tools", server.address)
    try:
        yield client
    finally:
        await client.close()
        await servicer.aclose()
        await server.stop()


async def append(service: str, amount: int, run_id: str = "p04/0/external/0") -> str:
    """Calls the ledger at a service's address: the status that it came to."""
    async with open_channel(service) as channel:
        try:
            await tools_pb2_grpc.ToolServiceStub(channel).Call(
                tools_pb2.CallToolRequest(
                    name="ledger_append",
                    arguments_json=json.dumps({"account": "books", "amount": amount}),
                    run_id=run_id,
                ),
                timeout=60,
            )
        except grpc.aio.AioRpcError as error:
            return error.code().name
    return "OK"


def test_a_cells_configuration_travels_whole() -> None:
    for profile in select_profiles("p00..p05,b02,r02"):
        sent = config(profile=profile, cycle=7, starts={})
        assert parse_config(sent.model_dump_json()) == sent


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"cell": 1}', config().model_dump_json()[:-1] + ', "more": 1}']
)
async def test_a_configuration_that_is_none_is_refused_and_ends_nothing(tmp_path: Path, text: str) -> None:
    async with serving_tools(tmp_path) as client:
        await client.begin("one", "c/p04", config(), continues=False)
        with pytest.raises(TreniError, match="configuration") as raised:
            await client._ask(
                client._stub.Begin(evidence_pb2.BeginRequest(session="two", scope="c/p04", config_json=text))
            )
        assert raised.value.code is Code.INVALID_ARGUMENT
        assert await append(client.service, 1) == "OK"
        assert (await client.read()).status.session == "one"


@pytest.mark.parametrize(
    "scope",
    [
        "..",
        "../x",
        "/etc",
        "a/../b",
        "a//b",
        "a/",
        "/",
        ".",
        ".hidden",
        "a/.b",
        "a\0b",
        "a b",
        "a/b/c/d/e",
        "x" * 101,
    ],
)
async def test_a_scope_that_could_lie_elsewhere_is_refused_by_every_method(
    tmp_path: Path, scope: str
) -> None:
    async with serving_tools(tmp_path / "state") as client:
        for ask in (
            client.begin("one", scope, config(), continues=False),
            client.deliveries(scope),
            client.effects(scope),
        ):
            with pytest.raises(TreniError) as raised:
                await ask
            assert raised.value.kind == "scope_invalid"
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize("role", ["", "../tools", "Tools", "tools-x", "t" * 80])
async def test_a_role_that_is_none_is_refused(tmp_path: Path, role: str) -> None:
    async with serving_tools(tmp_path) as client:
        with pytest.raises(TreniError) as raised:
            await client._ask(client._stub.Effects(evidence_pb2.EvidenceRequest(scope="c", role=role)).read())
        assert raised.value.kind == "role_invalid"


async def test_a_session_ends_the_one_before_and_nobody_ends_anothers(tmp_path: Path) -> None:
    async with serving_tools(tmp_path) as client:
        await client.begin("one", "c/p04", config(), continues=False)
        first = client.service
        assert await append(first, 1) == "OK"
        await client.begin("two", "c/p05", config(), continues=False)
        assert await append(first, 2) == "UNAVAILABLE"
        assert await append(client.service, 3) == "OK"
        with pytest.raises(TreniError) as raised:
            await client.end("one")
        assert raised.value.kind == "session_replaced"
        assert await append(client.service, 4) == "OK"
        await client.end("two")
        await client.end("two")
        assert await append(client.service, 5) == "UNAVAILABLE"
        assert [row.amount for row in await client.effects("c/p04")] == [1]
        assert [row.amount for row in await client.effects("c/p05")] == [3, 4]
        assert await client.effects("c/nothing") == []


async def test_a_session_whose_harness_is_there_is_left_alone_and_goes_with_it(tmp_path: Path) -> None:
    async with serving_tools(tmp_path) as client:
        await client.hold("one")
        await client.begin("one", "c/p04", config(), continues=False)
        await client.begin("one", "c/p04", config(), continues=True)
        other = RoleClient("tools", client.address)
        for ask in (other.begin("two", "c/p05", config(), continues=False), other.twin("two")):
            with pytest.raises(TreniError) as raised:
                await ask
            assert raised.value.kind == "session_in_progress"
        assert await append(client.service, 1) == "OK"
        await client.close()  # as when its process is gone
        while not other.service:
            with suppress(TreniError):  # until the role has heard of it
                await other.begin("two", "c/p05", config(), continues=False)
            await asyncio.sleep(0.02)
        assert await append(other.service, 2) == "OK"
        await other.close()


async def test_evidence_that_is_needed_and_not_there_is_told(tmp_path: Path) -> None:
    async with serving_tools(tmp_path) as client:
        with pytest.raises(TreniError, match="--state") as raised:
            await client.begin("one", "c/p04", config(), continues=True)
        assert raised.value.kind == "evidence_missing"
        await client.begin("one", "c/p04", config(), continues=False)
        await client.begin("two", "c/p04", config(), continues=True)


async def test_bytes_that_are_no_message_are_refused_by_every_method(tmp_path: Path) -> None:
    methods = evidence_pb2.DESCRIPTOR.services_by_name["EvidenceService"].methods
    assert len(methods) == 8
    async with serving_tools(tmp_path) as client, open_channel(client.address) as channel:
        for method in methods:
            path = f"/{SERVICE}/{method.name}"
            if method.server_streaming:
                stream: grpc.aio.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream(path)
                asked: Awaitable[object] = stream(b"\xff").read()
            else:
                single: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(path)
                asked = single(b"\xff")
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await asked
            assert raised.value.code() is Code.INVALID_ARGUMENT, path


async def test_a_start_that_fails_leaves_room_for_one_that_does_not(tmp_path: Path) -> None:
    async with serving_tools(tmp_path) as client:
        await client.begin("one", "c/p04", config(), continues=False)
        taken = int(client.address.rsplit(":", 1)[1])
        with pytest.raises(TreniError) as raised:
            await client.begin("two", "c/p04", config(port=taken), continues=False)
        assert raised.value.code is Code.UNAVAILABLE
        assert (await client.read()).status.session == ""
        await client.begin("three", "c/p04", config(), continues=False)
        assert await append(client.service, 1) == "OK"


async def test_a_state_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    async with serving_tools(tmp_path / "file") as client:
        with pytest.raises(TreniError) as raised:
            await client.begin("one", "c/p04", config(), continues=False)
        assert raised.value.kind == "state_unusable"


async def test_a_long_log_is_told_whole_and_in_order(tmp_path: Path) -> None:
    folder = tmp_path / "c" / "p04"
    folder.mkdir(parents=True)
    for arm in ("external", "internal"):
        with DeliveryLog(deliveries_path(folder, "tools", arm)) as log:
            for number in range(3000):
                fault = Fault(id=f"{arm}:{number}", site="tool", hop="tool", kind=Status())
                log.append(fault, "injector", run_id=f"p04/{number}/{arm}/0", attempt=number % 3)
    with DeliveryLog(deliveries_path(folder, "runtime", "external")) as log:
        log.append(fault, "injector", run_id="another role's", attempt=0)
    async with serving_tools(tmp_path) as client:
        rows = await client.deliveries("c/p04")
    assert [row.fault_id for arm, row in rows if arm == "external"] == [f"external:{n}" for n in range(3000)]
    assert len(rows) == 6000
    assert {row.attempt for _, row in rows} == {0, 1, 2}


async def test_what_was_acknowledged_survives_a_kill_and_another_epoch_tells_of_it(tmp_path: Path) -> None:
    arguments = ["-m", TESTBED_MODULE, "tools", "--state", str(tmp_path), "--parent-pid", str(os.getpid())]
    child = await start_child("tools", arguments, log_path=tmp_path / "log")
    client = RoleClient("tools", child.address)
    try:
        await client.begin("one", "c/p04", config(), continues=False)
        for amount in range(20):
            assert await append(client.service, amount) == "OK"
        before = (await client.read()).status
        child.process.kill()
        await child.process.wait()
        child.arguments += ("--port", child.address.rsplit(":", 1)[1])
        await child.restart()
        while True:
            try:
                after = (await client.read()).status
                break
            except TreniError:  # the channel has to notice first
                await asyncio.sleep(0.05)
        assert before.epoch == client.epoch != after.epoch
        assert (before.session, after.session) == ("one", "")
        assert [row.amount for row in await client.effects("c/p04")] == list(range(20))
    finally:
        await client.close()
        await child.stop()


async def test_a_twin_is_another_process_that_ends_with_its_session(tmp_path: Path) -> None:
    arguments = ["-m", TESTBED_MODULE, "tools", "--state", str(tmp_path), "--parent-pid", str(os.getpid())]
    child = await start_child("tools", arguments, log_path=tmp_path / "log")
    client = RoleClient("tools", child.address)
    try:
        twin = RoleClient("tools", await client.twin("one"))
        await client.begin("one", "c/a", config(), continues=False)
        await twin.begin("one", "c/b", config(), continues=False)
        assert client.pid != twin.pid
        assert client.epoch != twin.epoch
        assert await append(twin.service, 1) == "OK"
        await client.end("one")
        assert [row.amount for row in await twin.effects("c/b")] == [1]
        await client.twin("one")
        with pytest.raises(TreniError) as raised:
            await client.twin("one")
        assert raised.value.kind == "twins_exhausted"
        await client.release("one")
        with pytest.raises(TreniError) as raised:
            await twin.read()
        assert raised.value.code is Code.UNAVAILABLE
        await twin.close()
    finally:
        await client.close()
        await child.stop()


async def test_a_clock_that_is_ahead_is_found_to_half_a_round_trip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving_tools(tmp_path) as client:
        told = await reading(client)
        assert abs(told.offset_s) <= told.error_s
        read = client._stub.Status

        async def ahead(request: evidence_pb2.StatusRequest, timeout: float) -> evidence_pb2.StatusResponse:
            status = await read(request, timeout=timeout)
            status.machine.wall_s += 12.5
            return status

        monkeypatch.setattr(client._stub, "Status", ahead)
        told = await reading(client)
        assert abs(told.offset_s - 12.5) <= told.error_s

"""Who is let in: keys, TLS and clients' certificates at a real server, and at which addresses one may stand open."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from matrices.topologies.role_client import RoleClient
from tests.limits import HANG_S
from tests.proto.certificates import KEY, OTHER_KEY, Authority, key_file
from tools_svc.protocol import ToolsConfig
from tools_svc.server import start as start_tools
from treni.channels import open_channel, showing
from treni.doors import OPEN, Door, ServerTls, is_loopback
from treni.errors import Code, TreniError, from_rpc_error
from treni.keys import Keys
from treni.passes import NOTHING, Keyring, Pass
from treni.v1 import tools_pb2, tools_pb2_grpc

HERE = "127.0.0.1"


@asynccontextmanager
async def tools(folder: Path, door: Door, host: str = HERE) -> AsyncIterator[str]:
    """A server of tools behind the door; its address."""
    server = await start_tools(ToolsConfig(ledger_path=folder / "ledger.sqlite"), host=host, door=door)
    try:
        yield server.address
    finally:
        await server.stop(grace_s=0)


async def listed(address: str, given: Pass = NOTHING, metadata: tuple[tuple[str, str], ...] = ()) -> int:
    """How many tools the server lists. Raises what `from_rpc_error` makes of its refusal."""
    async with open_channel(address, given=given) as channel:
        try:
            answer = await tools_pb2_grpc.ToolServiceStub(channel).List(
                tools_pb2.ListToolsRequest(), timeout=HANG_S, metadata=metadata
            )
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, hop="tool") from None
    return len(answer.tools)


async def refused(address: str, given: Pass = NOTHING, *metadata: tuple[str, str]) -> TreniError:
    with pytest.raises(TreniError) as raised:
        await listed(address, given, metadata)
    return raised.value


async def test_only_who_shows_a_key_is_let_in(tmp_path: Path) -> None:
    keys = Keys(file=key_file(tmp_path, KEY, OTHER_KEY))
    mine = Pass(keys=Keys(file=key_file(tmp_path, OTHER_KEY, name="mine")))
    wrong = Pass(keys=Keys(file=key_file(tmp_path, KEY[::-1], name="wrong")))
    async with tools(tmp_path, Door(keys=keys)) as address:
        assert await listed(address, mine) > 0
        for error, kind in (
            (await refused(address), "key_missing"),
            (await refused(address, wrong), "key_wrong"),
            (await refused(address, mine, ("authorization", f"Bearer {KEY}")), "key_ambiguous"),
            (await refused(address, NOTHING, ("authorization", KEY)), "key_wrong"),
            (await refused(address, NOTHING, ("authorization", "Bearer ")), "key_wrong"),
        ):
            assert (error.code, error.kind) == (Code.UNAUTHENTICATED, kind)
            assert (error.definite, error.foreign, error.hop) == (True, False, "tool")
            assert "--key-file" in error.todo
            for secret in (KEY, OTHER_KEY, KEY[::-1]):
                assert secret not in f"{error}{error.got}"
        with showing(Keyring(by_host={HERE: mine}, default=wrong)):
            async with open_channel(address) as channel:
                stub = tools_pb2_grpc.ToolServiceStub(channel)
                assert (await stub.List(tools_pb2.ListToolsRequest(), timeout=HANG_S)).tools
        assert (await refused(address)).kind == "key_missing"


async def test_behind_a_key_health_is_told_and_nothing_else(tmp_path: Path) -> None:
    keys = Keys(file=key_file(tmp_path, KEY))
    async with tools(tmp_path, Door(keys=keys)) as address, open_channel(address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        told = await health.Check(health_pb2.HealthCheckRequest(), timeout=HANG_S)
        assert told.status == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(grpc.aio.AioRpcError) as watched:
            await health.Watch(health_pb2.HealthCheckRequest(), timeout=HANG_S).read()
        assert watched.value.code() is Code.UNAUTHENTICATED
    for door, code in (
        (Door(keys=keys), Code.UNIMPLEMENTED),
        (OPEN, None),
    ):
        async with (
            tools(tmp_path, door) as address,
            open_channel(address, given=Pass(keys=keys)) as channel,
        ):
            asked = reflection_pb2.ServerReflectionRequest(list_services="")
            call = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(
                iter([asked]), timeout=HANG_S
            )
            if code is None:
                assert await call.read()
                continue
            with pytest.raises(grpc.aio.AioRpcError) as reflected:
                await call.read()
            assert reflected.value.code() is code


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def tls(
    authority: Authority, *names: str, expired: bool = False, clients: Authority | None = None
) -> ServerTls:
    pair = authority.issue(*names, expired=expired)
    return ServerTls(
        certificate=pair.certificate, key=pair.key, client_ca=None if clients is None else clients.ca
    )


async def test_tls_and_a_key_together(tmp_path: Path, authority: Authority) -> None:
    keys = Keys(file=key_file(tmp_path, KEY))
    async with tools(tmp_path, Door(keys=keys, tls=tls(authority, HERE))) as address:
        assert await listed(address, Pass(keys=keys, ca=authority.ca)) > 0
        assert (await refused(address, Pass(ca=authority.ca))).kind == "key_missing"
        assert (await refused(address, Pass(keys=keys))).code is Code.UNAVAILABLE


async def test_a_server_that_cannot_be_believed_is_told_with_its_reason(
    tmp_path: Path, authority: Authority
) -> None:
    other = Authority(tmp_path, "other")
    for made, kind in (
        (tls(other, HERE), "certificate_untrusted"),
        (tls(authority, "elsewhere.test"), "certificate_of_another_host"),
        (tls(authority, HERE, expired=True), "certificate_expired"),
        (None, "tls_not_spoken"),
    ):
        async with tools(tmp_path, Door(tls=made)) as address:
            error = await refused(address, Pass(ca=authority.ca))
            assert (error.code, error.kind, error.foreign) == (Code.UNAVAILABLE, kind, True)
            assert error.todo
            with showing(Keyring(default=Pass(ca=authority.ca))):
                assert (await role_refused(address)).kind == kind


async def test_a_name_may_be_another_than_that_of_the_address(tmp_path: Path, authority: Authority) -> None:
    async with tools(tmp_path, Door(tls=tls(authority, "gpu.test"))) as address:
        assert await listed(address, Pass(ca=authority.ca, server_name="gpu.test")) > 0
        port = address.rpartition(":")[2]
        assert await listed(f"localhost:{port}", Pass(ca=authority.ca, server_name="gpu.test")) > 0
        assert (
            await refused(f"localhost:{port}", Pass(ca=authority.ca))
        ).kind == "certificate_of_another_host"


async def role_refused(address: str) -> TreniError:
    """How a role that was started there is told to a harness."""
    client = RoleClient("tools", address)
    try:
        with pytest.raises(TreniError) as raised:
            await client.read(timeout_s=HANG_S)
    finally:
        await client.close()
    assert address in raised.value.expected
    assert raised.value.todo
    return raised.value


async def test_a_caller_without_a_good_certificate_is_not_let_in_and_is_told_why(
    tmp_path: Path, authority: Authority
) -> None:
    other = Authority(tmp_path, "other")
    good, old, strange = (
        authority.issue("harness"),
        authority.issue("harness", expired=True),
        other.issue("harness"),
    )
    async with tools(tmp_path, Door(tls=tls(authority, HERE, clients=authority))) as address:
        assert await listed(address, Pass(ca=authority.ca, certificate=good.certificate, key=good.key)) > 0
        for given, kind, word in (
            (Pass(ca=authority.ca), "client_certificate_refused", "none"),
            (
                Pass(ca=authority.ca, certificate=old.certificate, key=old.key),
                "client_certificate_refused",
                "expired",
            ),
            (
                Pass(ca=authority.ca, certificate=strange.certificate, key=strange.key),
                "client_certificate_refused",
                "another authority",
            ),
            (NOTHING, "tls_expected", "plain"),
        ):
            assert (await refused(address, given)).code is Code.UNAVAILABLE
            with showing(Keyring(default=given)):
                told = await role_refused(address)
            assert (told.code, told.kind) == (Code.UNAVAILABLE, kind)
            assert word in told.got
        assert await listed(address, Pass(ca=authority.ca, certificate=good.certificate, key=good.key)) > 0


def test_files_that_are_none_are_refused_before_anything_is_served(
    tmp_path: Path, authority: Authority
) -> None:
    pair, second = authority.issue(HERE), authority.issue("second")
    garbage = tmp_path / "garbage.pem"
    garbage.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", encoding="utf-8")
    garbage.chmod(0o600)
    served: tuple[tuple[Path, Path, Path | None], ...] = (
        (pair.certificate, second.key, None),
        (garbage, pair.key, None),
        (pair.certificate, garbage, None),
        (pair.certificate, pair.key, garbage),
        (pair.key, pair.key, None),
        (tmp_path / "absent", pair.key, None),
        (pair.certificate, tmp_path / "absent", None),
        (tmp_path, tmp_path, tmp_path),
    )
    for certificate, key, ca in served:
        with pytest.raises(TreniError) as raised:
            ServerTls(certificate=certificate, key=key, client_ca=ca)
        assert raised.value.code is Code.INVALID_ARGUMENT
    pair.key.chmod(0o644)
    with pytest.raises(TreniError, match="chmod 600"):
        ServerTls(certificate=pair.certificate, key=pair.key)
    shown: tuple[tuple[Path | None, Path | None, Path | None], ...] = (
        (second.certificate, None, None),
        (None, second.key, authority.ca),
        (second.certificate, second.key, None),
    )
    for one, its_key, believed in shown:
        with pytest.raises(TreniError, match="authority"):
            Pass(certificate=one, key=its_key, ca=believed)
    with pytest.raises(TreniError):
        Pass(ca=garbage)


def test_which_hosts_only_this_machine_reaches(monkeypatch: pytest.MonkeyPatch) -> None:
    for host in ("127.0.0.1", "127.9.9.9", "::1", "[::1]", "localhost", "::ffff:127.0.0.1"):
        assert is_loopback(host), host
    for host in (
        *("0.0.0.0", "::", "[::]", "", "0", "10.0.0.1", "192.0.2.1", "::ffff:10.0.0.1", "fe80::1%1"),
        *("nobody.invalid", "a" * 300, "\udce9"),
    ):
        assert not is_loopback(host), host

    def both(*_: object, **__: object) -> list[object]:
        return [(0, 0, 0, "", ("127.0.0.1", 0)), (0, 0, 0, "", ("192.0.2.7", 0))]

    monkeypatch.setattr(socket, "getaddrinfo", both)
    assert not is_loopback("a.name.for.both")


async def test_no_server_stands_open_to_other_machines_unless_it_is_told_to(
    tmp_path: Path, authority: Authority
) -> None:
    keys = Keys(file=key_file(tmp_path, KEY))
    for host in ("0.0.0.0", "::", ""):
        for door in (OPEN, Door(tls=tls(authority, HERE))):
            with pytest.raises(TreniError) as raised:
                await start_tools(ToolsConfig(ledger_path=tmp_path / "l.sqlite"), host=host, door=door)
            assert (raised.value.code, raised.value.kind) == (Code.INVALID_ARGUMENT, "door_open")
            assert "--insecure" in raised.value.todo
    for door in (
        Door(insecure=True),
        Door(keys=keys),
        Door(tls=tls(authority, HERE, clients=authority)),
    ):
        async with tools(tmp_path, door, host="0.0.0.0"):
            pass


async def test_a_lock_takes_no_part_in_how_many_calls_there_may_be(tmp_path: Path) -> None:
    """A thousand calls without a key at once are all refused as such, and those with one are answered meanwhile."""
    keys = Keys(file=key_file(tmp_path, KEY))
    async with tools(tmp_path, Door(keys=keys)) as address:
        strangers = [asyncio.create_task(refused(address)) for _ in range(300)]
        assert await listed(address, Pass(keys=keys)) > 0
        assert {error.kind for error in await asyncio.gather(*strangers)} == {"key_missing"}

"""Lanes to a service behind a door: the proxies carry TLS, and what keeps a caller out is told as the lanes open."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

import grpc
import pytest

from chaos.deliveries import DeliveryLog
from chaos.faults import Latency, Reset, Slicer
from chaos.lanes import open_lanes
from chaos.toxiproxy import ToxiproxyServer
from tests.chaos.test_lanes import marked, schedule_of
from tests.limits import HANG_S
from tests.proto.certificates import KEY, OTHER_KEY, Authority, key_file
from tools_svc.protocol import ToolsConfig
from tools_svc.server import start as start_tools
from treni.channels import showing
from treni.doors import Door, ServerTls
from treni.errors import TreniError
from treni.keys import Keys
from treni.passes import NOTHING, Keyring, Pass
from treni.v1 import tools_pb2, tools_pb2_grpc

KINDS = (Latency(delay_ms=20), Slicer(average_size_bytes=100, delay_us=50))
RESET = Reset()

pytestmark = pytest.mark.chaos


async def test_a_lane_leads_to_who_it_says_and_shows_the_key_there_alone(
    tmp_path: Path, toxiproxy: ToxiproxyServer, deliveries: DeliveryLog
) -> None:
    """The service has another address than the proxies, as on other hosts: its certificate names that one."""
    authority, other = Authority(tmp_path), Authority(tmp_path, "other")
    pair, mine = authority.issue("127.0.0.2"), authority.issue("me")
    keys, wrong = Keys(file=key_file(tmp_path, KEY)), Keys(file=key_file(tmp_path, OTHER_KEY, name="wrong"))
    door = Door(keys=keys, tls=ServerTls(certificate=pair.certificate, key=pair.key, client_ca=authority.ca))
    known = Pass(keys=keys, ca=authority.ca, certificate=mine.certificate, key=mine.key)
    async with AsyncExitStack() as stack:
        server = await start_tools(
            ToolsConfig(ledger_path=tmp_path / "ledger.sqlite"), host="127.0.0.2", door=door
        )
        stack.push_async_callback(server.stop, grace_s=0)

        async def listed(shown: Pass) -> None:
            # What is shown to others, the proxies' address among them, lets nobody in.
            with showing(Keyring(by_host={"127.0.0.2": shown}, default=Pass(keys=wrong))):
                async with open_lanes(
                    toxiproxy.address,
                    hop="tool",
                    upstream=server.address,
                    schedule=schedule_of(*KINDS, RESET),
                    deliveries=deliveries,
                ) as channel:
                    stub = tools_pb2_grpc.ToolServiceStub(channel)
                    for kind in (None, *KINDS):
                        mark = marked("k", kind)
                        answer = await stub.List(tools_pb2.ListToolsRequest(), timeout=HANG_S, metadata=mark)
                        assert answer.tools
                    with pytest.raises(grpc.aio.AioRpcError) as reset:
                        await stub.List(
                            tools_pb2.ListToolsRequest(), timeout=HANG_S, metadata=marked("r", RESET)
                        )
                    assert reset.value.code() is grpc.StatusCode.UNAVAILABLE

        await listed(known)
        for shown, kind in (
            (Pass(ca=authority.ca, certificate=mine.certificate, key=mine.key), "key_missing"),
            (
                Pass(keys=wrong, ca=authority.ca, certificate=mine.certificate, key=mine.key),
                "key_wrong",
            ),
            (Pass(keys=keys, ca=other.ca), "certificate_untrusted"),
            (Pass(keys=keys, ca=authority.ca, server_name="127.0.0.1"), "certificate_of_another_host"),
            (Pass(keys=keys, ca=authority.ca), "client_certificate_refused"),
            (Pass(keys=keys), "tls_expected"),
            (NOTHING, "tls_expected"),
        ):
            with pytest.raises(TreniError) as raised:
                await listed(shown)
            assert raised.value.kind == kind
            assert raised.value.code in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.UNAVAILABLE)
            assert KEY not in str(raised.value)

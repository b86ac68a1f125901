"""Tools of an MCP server at a URL: ours, and one whose answers are bad in every way."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from tests.tools_svc.mcp.hostile_http import hostile_url
from tests.tools_svc.mcp.hosts import call, hosting
from tests.tools_svc.mcp.test_service import served
from tools_svc.ledger_append import read_effects
from treni.errors import Code, TreniError
from treni.v1.tools_pb2 import CallToolRequest

BRIEF_S = 0.5


@pytest.mark.parametrize(
    ("name", "code", "kind"),
    [
        ("hang", Code.DEADLINE_EXCEEDED, "mcp_timeout"),
        ("status", Code.UNAVAILABLE, "mcp_error"),
        ("html", Code.UNAVAILABLE, "mcp_error"),
        ("flood", Code.UNAVAILABLE, "mcp_server_lost"),
        pytest.param("flood_sse", Code.UNAVAILABLE, "mcp_server_lost", marks=pytest.mark.soak),
        pytest.param("bomb", Code.UNAVAILABLE, "mcp_server_lost", marks=pytest.mark.soak),
        ("cut", Code.UNAVAILABLE, "mcp_server_lost"),
        ("other_id", Code.DEADLINE_EXCEEDED, "mcp_timeout"),
        ("accepted", Code.UNAVAILABLE, "mcp_error"),
        ("elsewhere", Code.UNAVAILABLE, "mcp_error"),
    ],
)
def test_a_bad_answer_is_a_typed_error_and_the_next_call_works(
    tmp_path: Path, name: str, code: Code, kind: str
) -> None:
    with hostile_url() as url, hosting(tmp_path, f"mcp:{url}") as registry:
        with pytest.raises(TreniError) as caught:
            call(registry, name, wait_s=BRIEF_S if code is Code.DEADLINE_EXCEEDED else None)
        assert (caught.value.code, caught.value.kind, caught.value.definite) == (code, kind, False)
        assert json.loads(call(registry, "echo").result_json) == {"text": "hi"}


def test_where_nobody_listens(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(TreniError) as caught, hosting(tmp_path, f"mcp:http://127.0.0.1:{port}/mcp"):
            pass
    assert (caught.value.kind, caught.value.definite) == ("mcp_not_opened", True)


def test_our_tools_over_mcp_are_ours(tmp_path: Path) -> None:
    there, here = tmp_path / "there", tmp_path / "here"
    there.mkdir()
    here.mkdir()
    with served(there) as (_, ready), hosting(here, "builtin", f"mcp:{ready['mcp']}") as registry:
        specs = {spec.name: spec for spec in registry.specs()}
        ours, theirs = specs["ledger_append"], specs["treni-route_ledger_append"]
        assert json.loads(ours.parameters_json) == json.loads(theirs.parameters_json)
        assert (ours.description, ours.has_side_effects) == (theirs.description, theirs.has_side_effects)
        assert not specs["treni-route_calculator"].has_side_effects

        def ask(name: str, arguments: object, key: str = "") -> str:
            request = CallToolRequest(name=name, arguments_json=json.dumps(arguments), idempotency_key=key)
            return registry.call(request).result_json

        assert json.loads(ask("treni-route_calculator", {"expression": "6 * 7"})) == {"value": 42}
        entry = {"account": "rent", "amount": 5}
        for _ in range(2):
            assert json.loads(ask("treni-route_ledger_append", entry, "k")) == {"recorded": entry}
        with pytest.raises(TreniError) as caught:
            ask("treni-route_ledger_append", {"account": "nobody", "amount": 5})
        assert caught.value.code is Code.INVALID_ARGUMENT
        with pytest.raises(TreniError) as caught:
            ask("treni-route_calculator", {"expression": 5})
        assert caught.value.code is Code.INVALID_ARGUMENT
    assert [row.amount for row in read_effects(there / "ledger.sqlite")] == [5]


@pytest.mark.soak
def test_a_server_that_is_started_again_at_its_url_is_found_again(tmp_path: Path) -> None:
    there, here = tmp_path / "there", tmp_path / "here"
    there.mkdir()
    here.mkdir()
    entry = {"account": "rent", "amount": 5}
    request = CallToolRequest(
        name="treni-route_ledger_append", arguments_json=json.dumps(entry), idempotency_key="k"
    )
    with served(there) as (_, ready):
        port = ready["mcp"].rpartition(":")[2].removesuffix("/mcp")
        host = hosting(here, f"mcp:{ready['mcp']}")
        registry = host.__enter__()
    try:
        with pytest.raises(TreniError) as caught:
            registry.call(request)
        assert (caught.value.code, caught.value.definite) == (
            Code.UNAVAILABLE,
            True,
        )  # and so it may be repeated
        with served(there, "--mcp", port):
            assert json.loads(registry.call(request).result_json) == {"recorded": entry}
            assert registry.call(request).replayed
    finally:
        host.__exit__(None, None, None)
    assert len(read_effects(there / "ledger.sqlite")) == 1

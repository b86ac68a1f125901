"""Our tools as an MCP server, asked by the official client: over HTTP beside gRPC, and over stdin and stdout."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import httpx
import mcp_types as types
import pytest
from mcp import Client, StdioServerParameters
from mcp.shared.exceptions import MCPError

from tests.limits import HANG_S
from tools_svc.ledger_append import read_effects
from tools_svc.mcp_service import KEY
from tools_svc.registry import tool_specs


@contextmanager
def served(folder: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, str]]]:
    """`treni-route serve tools --mcp 0` as a process, and its line of JSON."""
    command = [sys.executable, "-m", "tools_svc", "--ledger", str(folder / "ledger.sqlite")]
    process = subprocess.Popen([*command, *(arguments or ("--mcp", "0"))], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process, json.loads(process.stdout.readline())
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=HANG_S) == 0
        process.stdout.close()


def _text(result: types.CallToolResult) -> str:
    (block,) = result.content
    assert isinstance(block, types.TextContent)
    return block.text


def _with_key(key: str) -> types.RequestParamsMeta:
    return cast(types.RequestParamsMeta, {KEY: key})


async def _exercise(client: Client, ledger: Path) -> None:
    listed = (await client.list_tools()).tools
    assert [tool.name for tool in listed] == [spec.name for spec in tool_specs()]
    assert [tool.input_schema for tool in listed] == [json.loads(one.parameters_json) for one in tool_specs()]
    assert [tool.annotations and tool.annotations.read_only_hint for tool in listed] == [
        not spec.has_side_effects for spec in tool_specs()
    ]

    result = await client.call_tool("calculator", {"expression": "6 * 7"})
    assert (result.structured_content, _text(result)) == ({"value": 42}, '{"value": 42}')

    refused = await client.call_tool("calculator", {"expression": "1 / 0"})
    assert refused.is_error
    assert "expected" in _text(refused)
    refused = await client.call_tool("calculator", {"expresion": "1"})
    assert refused.is_error
    assert "expression" in _text(refused)

    with pytest.raises(MCPError) as caught:
        await client.call_tool("calculater", {})
    assert caught.value.code == types.INVALID_PARAMS
    assert 'did you mean "calculator"?' in caught.value.message

    entry = {"account": "rent", "amount": 5}
    for _ in range(2):
        done = await client.call_tool("ledger_append", entry, meta=_with_key("k"))
        assert done.structured_content == {"recorded": entry}
    await client.call_tool("ledger_append", entry)
    refused = await client.call_tool("ledger_append", entry, meta=_with_key("x" * 300))
    assert refused.is_error
    assert [row.amount for row in read_effects(ledger)] == [5, 5]


async def test_over_http(tmp_path: Path) -> None:
    with served(tmp_path) as (_, ready):
        assert ready["mcp"].startswith("http://127.0.0.1:")
        async with Client(ready["mcp"]) as client:
            await _exercise(client, tmp_path / "ledger.sqlite")
        async with Client(ready["mcp"], mode="legacy") as client:
            assert (await client.call_tool("calculator", {"expression": "6 * 7"})).structured_content == {
                "value": 42
            }


async def test_over_stdio(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.sqlite"
    server = StdioServerParameters(
        command=sys.executable, args=["-m", "tools_svc", "--mcp-stdio", "--ledger", str(ledger)]
    )
    async with Client(server) as client:
        await _exercise(client, ledger)


@pytest.mark.soak
def test_what_is_no_mcp_gets_a_status_and_the_next_one_an_answer(tmp_path: Path) -> None:
    with served(tmp_path) as (_, ready):
        url = ready["mcp"]
        headers = {"accept": "application/json, text/event-stream", "content-type": "application/json"}
        for body in (b"", b"{", b"[]", b"\xff" * 100, b"[" * 100_000, b'{"jsonrpc": "2.0"}'):
            assert 400 <= httpx.post(url, content=body, headers=headers).status_code < 500
        assert httpx.post(url, content=b"x" * 64_000_000, headers=headers, timeout=HANG_S).status_code == 413
        assert httpx.get(url).status_code == 405
        assert httpx.post(url, json={}, headers={**headers, "host": "evil.example"}).status_code in (403, 421)
        call = {
            "jsonrpc": "2.0",
            "id": 1,
            "method": "tools/call",
            "params": {"name": "calculator", "arguments": {"expression": "6 * 7"}},
        }
        answered = httpx.post(url, json=call, headers=headers).json()
        assert answered["result"]["structuredContent"] == {"value": 42}


@pytest.mark.soak
def test_a_port_that_is_taken_is_told(tmp_path: Path) -> None:
    with served(tmp_path) as (_, ready):
        port = ready["mcp"].rpartition(":")[2].removesuffix("/mcp")
        command = [sys.executable, "-m", "tools_svc", "--ledger", str(tmp_path / "l"), "--mcp", port]
        done = subprocess.run(command, capture_output=True, text=True, timeout=HANG_S, check=False)
    assert done.returncode == 1
    assert port in done.stderr
    assert "Traceback" not in done.stderr

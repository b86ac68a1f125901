"""The reference MCP servers as tools in both arms, called by the real model: `make test-mcp`.

They are installed from PyPI and npm into a folder of their own, `TRENI_MCP_CACHE` or one in the user's cache: the time
and fetch servers, the filesystem server, and the SQLite server, which is older and has an older SDK.
"""

from __future__ import annotations

import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from tests.matrices import harness as h
from tools_svc.protocol import ToolsConfig
from tools_svc.registry import build_registry
from treni.v1.tools_pb2 import CallToolRequest

pytestmark = pytest.mark.soak

PINNED = {
    "time": ("mcp-server-time==2026.10.19", "mcp-server-fetch==2026.10.24"),
    "sqlite": ("mcp-server-sqlite==2025.4.25", "mcp<2"),
}
FILESYSTEM = "@modelcontextprotocol/server-filesystem@2026.8.31"

PROFILE = """
name = "m02_mcp"
title = "Calls of tools are refused"
[policy]
tool_timeout = "20s"
retries = 1
backoff_initial = "10ms"
[faults]
site = "hop"
hop = "tool"
by = "attempt"
warmup = 1
[[faults.rules]]
kind = "status"
code = "UNAVAILABLE"
every = 3
"""


@pytest.fixture(scope="module")
def servers() -> dict[str, str]:
    """The path of each server's program."""
    cache = Path(
        os.environ.get("TRENI_MCP_CACHE")
        or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "treni-route" / "mcp-servers"
    )
    for name, packages in PINNED.items():
        _installed(
            cache / name,
            [sys.executable, "-m", "venv", str(cache / name)],
            [str(cache / name / "bin" / "python"), "-m", "pip", "install", "--quiet", *packages],
        )
    npm = cache / "npm"
    _installed(npm, ["npm", "install", "--silent", "--prefix", str(npm), FILESYSTEM])
    return {
        "time": str(cache / "time" / "bin" / "mcp-server-time"),
        "fetch": str(cache / "time" / "bin" / "mcp-server-fetch"),
        "sqlite": str(cache / "sqlite" / "bin" / "mcp-server-sqlite"),
        "filesystem": str(npm / "node_modules" / ".bin" / "mcp-server-filesystem"),
    }


def _installed(folder: Path, *commands: Sequence[str]) -> None:
    """Runs the commands, unless the same ones ran in the folder to their end before."""
    done = folder / ".installed"
    wanted = json.dumps(commands)
    if done.is_file() and done.read_text(encoding="utf-8") == wanted:
        return
    folder.mkdir(parents=True, exist_ok=True)
    for command in commands:
        subprocess.run(command, check=True, timeout=h.WAIT_S)
    done.write_text(wanted, encoding="utf-8")


def _task(
    number: int, family: str, prompt: str, call: str, arguments: object, answer: str
) -> dict[str, object]:
    offered = ["convert_time", call] if family == "time" else [call]
    return {
        "id": f"{family}-{number}",
        "family": family,
        "run": 0,
        "prompt": prompt,
        "tools": offered,
        "expect": {"answer": answer, "calls": [{"name": call, "arguments": arguments}]},
        "side_effects": 1 if family == "filesystem" else 0,
    }


def _suite(path: Path) -> Path:
    day = {zone: datetime.now(ZoneInfo(zone)).strftime("%A") for zone in ("Cuba", "Egypt")}
    tasks = [
        *(
            _task(
                number,
                "time",
                prompt.format(zone=zone),
                "get_current_time",
                {"timezone": zone},
                f"The current is {zone} and the day is {day[zone]}.",
            )
            for number, (zone, prompt) in enumerate(
                [
                    ("Cuba", "Use timezone = {zone} to get a current time, please."),
                    ("Egypt", "Task: use {zone} for the timezone and then read the current time."),
                ]
            )
        ),
        *(
            _task(number, "sqlite", prompt, "read_query", {"query": "select 1"}, "The text is 1.")
            for number, prompt in enumerate(
                [
                    "Please take select 1 as the query to execute a query",
                    "Do this: run a new query with query select 1.",
                ]
            )
        ),
        _task(
            0,
            "filesystem",
            "Write the file with path Kestrel and content hello.",
            "write_file",
            {"path": "Kestrel", "content": "hello"},
            "The content is Successfully wrote to Kestrel.",
        ),
    ]
    path.write_text("\n".join(map(json.dumps, tasks)) + "\n", encoding="utf-8")
    return path


def test_three_reference_servers_are_tools_in_both_arms(tmp_path: Path, servers: dict[str, str]) -> None:
    files, profile = tmp_path / "files", tmp_path / "m02_mcp.toml"
    files.mkdir()
    profile.write_text(PROFILE, encoding="utf-8")
    sources = [
        f"mcp:{servers['time']} --local-timezone Etc/UTC",
        f"mcp:{servers['sqlite']} --db-path {tmp_path / 'a.db'}",
        f"mcp:{servers['filesystem']} {files}",
    ]
    while True:
        today = datetime.now(UTC).date()
        result = h.matrix(
            tmp_path / f"out-{today}",
            str(profile),
            *("--suite", str(_suite(tmp_path / "mine.jsonl")), "--runs", "1"),
            *(word for source in sources for word in ("--tools", source)),
        )
        assert result.status in (0, 3), result.stderr
        if datetime.now(UTC).date() == today:  # the answers name the day
            break
    row = result.comparison("m02")
    assert row["findings"] == "0", result.stderr
    assert int(row["faults_planned"]) > 0
    assert row["faults_planned"] == row["faults_delivered"] == row["faults_observed"]
    for arm in ("internal", "external"):
        of_arm = result.summary("m02", arm)
        assert (of_arm["errors"], of_arm["accuracy"], of_arm["tool_calls"]) == ("0", "1.000000", "5")
    assert {path.name: path.read_text(encoding="utf-8") for path in files.iterdir()} == {"Kestrel": "hello"}


@pytest.fixture
def page(tmp_path: Path) -> Iterator[str]:
    """The URL of a page on this machine."""
    (tmp_path / "page.html").write_text("<html><body><p>Kestrel listens.</p></body></html>", encoding="utf-8")
    handler = type(
        "Quiet",
        (http.server.SimpleHTTPRequestHandler,),
        {
            "log_message": lambda *_: None,
            "__init__": lambda self, *rest: http.server.SimpleHTTPRequestHandler.__init__(
                self, *rest, directory=str(tmp_path)
            ),
        },
    )
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/page.html"
        server.shutdown()


def test_the_fetch_server(tmp_path: Path, servers: dict[str, str], page: str) -> None:
    config = ToolsConfig(
        ledger_path=tmp_path / "ledger", sources=(f"mcp:{servers['fetch']} --allow-private-ips",)
    )
    with build_registry(config) as registry:
        answer = registry.call(CallToolRequest(name="fetch", arguments_json=json.dumps({"url": page})))
        assert "Kestrel listens." in answer.result_json

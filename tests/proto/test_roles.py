"""Roles that cannot start, or are told what cannot be: one line that says why, a status, never a traceback."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.limits import HANG_S
from tests.proto.roles import MODEL, role, start
from treni import serving
from treni.channels import check_address, open_channel
from treni.errors import TreniError
from treni.packages import cache_folder
from treni.v1 import tools_pb2, tools_pb2_grpc

TOOLS = ("tools_svc", "--ledger", "LEDGER")
RUNTIME = ("runtime_svc", "--model", str(MODEL))
CONTROLLER = ("controller", "--model-address", "127.0.0.1:1", "--tools-address", "127.0.0.1:2")


@pytest.fixture
def busy() -> Iterator[str]:
    """A port that is taken."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        yield str(taken.getsockname()[1])


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        *(((*each, "--port", "BUSY"), 1, "expected 127.0.0.1:") for each in (TOOLS, RUNTIME, CONTROLLER)),
        *(((*each, "--port", "65536"), 2, "65535") for each in (TOOLS, RUNTIME, CONTROLLER)),
        ((*TOOLS, "--port", "-1"), 2, "65535"),
        ((*RUNTIME, "--port", "x"), 2, "x"),
        ((*CONTROLLER, "--nonsense"), 2, "--nonsense"),
        *(
            ((*each, "--host", "192.0.2.1", "--insecure"), 1, "192.0.2.1:0")
            for each in (TOOLS, RUNTIME, CONTROLLER)
        ),
        ((*RUNTIME, "--metrics-port", "BUSY"), 1, "expected 127.0.0.1:"),
        ((*RUNTIME, "--metrics-port", "70000"), 2, "65535"),
        *(((*RUNTIME, "--max-queue", value), 2, "--max-queue") for value in ("-5", "0", "1e3", "9" * 30)),
        *(((*RUNTIME, option, "9" * 30), 2, option) for option in ("--slots", "--max-rows")),
        (("runtime_svc",), 2, "--model"),
        (("runtime_svc", "--model", "/nonexistent"), 1, "nonexistent"),
        (("tools_svc",), 2, "--ledger"),
        (("tools_svc", "--ledger", "/nonexistent/ledger"), 1, "/nonexistent/ledger"),
        (("controller",), 2, "--model-address"),
        ((*CONTROLLER[:2], "nowhere", *CONTROLLER[3:]), 2, "'nowhere'"),
        ((*CONTROLLER, "--retries", "-1"), 2, "retries"),
        ((*CONTROLLER, "--run-timeout-s", "1e300"), 2, "run_timeout_s"),
        ((*CONTROLLER, "--backoff-jitter", "nan"), 2, "backoff_jitter"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
async def test_what_cannot_be_is_said_in_one_line(
    tmp_path: Path, busy: str, arguments: tuple[str, ...], status: int, words: str
) -> None:
    known = {"BUSY": busy, "LEDGER": str(tmp_path / "ledger.sqlite")}
    process = await start(*(known.get(each, each) for each in arguments))
    try:
        output, errors = await asyncio.wait_for(process.communicate(), HANG_S)
    finally:
        if process.returncode is None:  # it serves, and should not
            process.kill()
    said = errors.decode()
    assert (process.returncode, output) == (status, b""), said
    assert words in said
    assert "Traceback" not in said


async def test_a_role_serves_on_ipv6(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET6) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError:
            process = await start("tools_svc", "--ledger", str(tmp_path / "ledger"), "--host", "::1")
            _, errors = await asyncio.wait_for(process.communicate(), HANG_S)
            assert (process.returncode, b"Traceback" in errors) == (1, False)
            assert b"expected [::1]:0" in errors
            return
    for host in ("::1", "[::1]"):
        async with role("tools_svc", "--ledger", str(tmp_path / "ledger"), "--host", host) as address:
            assert address.startswith("[::1]:")
            check_address("--tools-address", address)
            async with open_channel(address) as channel:
                listed = await tools_pb2_grpc.ToolServiceStub(channel).List(
                    tools_pb2.ListToolsRequest(), timeout=HANG_S
                )
                assert listed.tools


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user without a home, whom the system does not know."""

    def unknown(uid: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr("pwd.getpwuid", unknown)


def test_a_cache_without_a_home_is_asked_for(nobody: None, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TreniError, match="XDG_CACHE_HOME") as caught:
        cache_folder()
    assert caught.value.kind == "home_unknown"
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert cache_folder() == Path("/cache/treni-route")


UNKNOWN_USER = """
import pwd, runpy, sys
def unknown(uid): raise KeyError(f"getpwuid(): uid not found: {uid}")
pwd.getpwuid = unknown
sys.argv = sys.argv[1:]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize("arguments", [TOOLS, RUNTIME, CONTROLLER], ids=lambda each: each[0])
async def test_roles_need_no_home(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    told = (each.replace("LEDGER", str(tmp_path / "ledger")) for each in arguments)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-c", UNKNOWN_USER, *told),
        env={"PATH": os.environ["PATH"]},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    line = await asyncio.wait_for(process.stdout.readline(), HANG_S)
    assert b"address" in line, (await process.communicate())[1].decode()
    process.terminate()
    assert await asyncio.wait_for(process.wait(), HANG_S) == 0


def test_addresses() -> None:
    assert serving.join("127.0.0.1", 80) == "127.0.0.1:80"
    assert serving.join("::1", 80) == serving.join("[::1]", 80) == "[::1]:80"
    for good in ("127.0.0.1:1", "[::1]:65535", "host.name:80"):
        check_address("--x", good)
    for bad in (
        "",
        "host",
        ":80",
        "host:",
        "host:0",
        "host:65536",
        "host:x",
        "host:٣",
        "host:-1",
        "::1",
        "::1:80",
        f"host:{'9' * 5000}",
    ):
        with pytest.raises(TreniError, match="--x"):
            check_address("--x", bad)

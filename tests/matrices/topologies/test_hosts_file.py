"""What the file of hosts, and a file of a role's options, may say."""

from __future__ import annotations

from pathlib import Path

import pytest

from matrices.topologies.hosts_file import read_hosts
from matrices.topologies.role_command import role_command
from tests.matrices import harness as h
from tests.matrices.topologies.hosts_files import AGENT, CONTROLLER, HOST, HOSTS, TOOLS, WHOLE, write
from treni.errors import Code, TreniError


def test_a_file_of_hosts_with_a_byte_order_mark_and_windows_line_ends_is_read(tmp_path: Path) -> None:
    path = tmp_path / "hosts.toml"
    path.write_bytes(b"\xef\xbb\xbf" + WHOLE.replace("\n", "\r\n").encode())
    assert [one.role for one in read_hosts(path).service] == ["agent", "controller", "tools"]
    assert read_hosts(path).service[0].faults == ("hop", "tool")


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "service"),
        ("service = 3", "service"),
        (AGENT + CONTROLLER, "tools"),
        (WHOLE + "".join(TOOLS.replace("7001", str(7100 + n)) for n in range(64)), "1 to 64 tools"),
        (WHOLE + AGENT.replace("7001", "7002") + AGENT.replace("7001", "7003"), "agent"),
        (WHOLE + TOOLS.replace("tools", "runtime", 1), "127.0.0.4:7001"),
        (WHOLE.replace('"agent"', '"agnet"'), "service.0.role"),
        (WHOLE.replace("host =", "hots =", 1), "service.0"),
        (WHOLE.replace(":7001", ":70010", 1), "service.0.address"),
        (WHOLE.replace(":7001", ":0", 1), "service.0.address"),
        (WHOLE.replace("127.0.0.2:7001", "http://127.0.0.2:7001"), "service.0.address"),
        (WHOLE.replace("127.0.0.2:7001", "::1:7001"), "service.0.address"),
        (WHOLE + "faults = ['everything']", "service.2.faults"),
        (WHOLE + "[toxiproxy]\nhost = 'one'\naddress = '127.0.0.2:7001'", "127.0.0.2:7001"),
        (WHOLE + "[[host]]\nname = 'one'\naddress = '127.0.0.2:7001'", "127.0.0.2:7001"),
        (WHOLE + 2 * "[[host]]\nname = 'one'\naddress = '127.0.0.9:7001'\n", "127.0.0.9:7001"),
        (
            WHOLE + HOST.replace("three", "one") + HOST.replace("three", "one").replace("9:", "8:"),
            "one twice",
        ),
        (WHOLE + HOST.replace("name", "host"), "host.0"),
        ("link = '../up.json'\n" + WHOLE, "link"),
        ("link = 'counters.txt'\n" + WHOLE, "link"),
        ("[[service", "hosts.toml"),
    ],
)
def test_a_file_that_is_none_is_refused_with_the_key_before_anything_runs(
    tmp_path: Path, text: str, word: str
) -> None:
    path = write(tmp_path / "hosts.toml", text)
    with pytest.raises(TreniError) as raised:
        read_hosts(path)
    assert raised.value.code is Code.INVALID_ARGUMENT
    assert word in str(raised.value)
    assert str(path) in str(raised.value)


@pytest.mark.parametrize(
    ("hosts", "arguments", "kind"),
    [
        (WHOLE, ["p00", "--restarts", "2"], "local"),
        (WHOLE, ["b01"], "host"),
        (WHOLE.replace('7001"\n', "7001\"\nfaults = ['host']\n"), ["b01"], "kills processes"),
        (WHOLE + "faults = []", ["p04"], "hop"),
        (WHOLE + "faults = ['hop']", ["p04t"], "tool"),
        (WHOLE + "faults = []", ["p00"], ""),
        (WHOLE, ["n04"], "[[host]]"),
        (WHOLE + HOST, ["n04"], "none for one, two"),
        (WHOLE + HOSTS, ["n01..n06"], ""),
        (WHOLE.replace("three", "two") + HOSTS, ["n01..n06"], ""),
        (WHOLE.replace("one", "two") + HOSTS, ["n01"], "a link between the controller and the model"),
        (WHOLE.replace("one", "two") + HOSTS, ["n04,n05"], ""),
        (None, ["p00"], "hosts.toml"),
    ],
)
def test_what_the_hosts_cannot_do_is_said_by_a_dry_run(
    tmp_path: Path, hosts: str | None, arguments: list[str], kind: str
) -> None:
    path = tmp_path / "hosts.toml"
    if hosts is not None:
        write(path, hosts)
    out = tmp_path / "out"
    process = h.start(*arguments, "--topology", str(path), "--dry-run", "--out", str(out))
    _, stderr = process.communicate(timeout=h.WAIT_S)
    assert process.returncode == (2 if kind else 0), stderr
    assert kind in stderr
    assert "Traceback" not in stderr
    assert not out.exists()


@pytest.mark.parametrize("topology", ["lokal", "local:x", "hosts", "hosts:/nonexistent.toml"])
def test_a_topology_that_is_none_is_refused(tmp_path: Path, topology: str) -> None:
    process = h.start("p00", "--topology", topology, "--dry-run", "--out", str(tmp_path / "out"))
    _, stderr = process.communicate(timeout=h.WAIT_S)
    assert process.returncode == 2
    assert "Traceback" not in stderr


def test_options_come_from_a_file_and_from_the_command_line_first(tmp_path: Path) -> None:
    path = write(
        tmp_path / "role.toml", 'host = "127.0.0.9"\nport = 7\nmodel_dir = "m"\ntestbed = true\nx = false\n'
    )
    assert role_command("tools", ["--port", "8", "--config", str(path)]) == [
        *("-m", "matrices.topologies.serve", "tools"),
        *("--host=127.0.0.9", "--port=7", "--model-dir=m", "--port", "8"),
    ]
    assert role_command("agent", [f"--config={path}"])[1] == "matrices.topologies.serve"
    assert role_command("runtime", ["--model", "m"]) == ["-m", "runtime_svc", "--model", "m"]


@pytest.mark.parametrize("text", ["[a]\nb = 1", "a = [1]", "a =", "\xff"])
def test_a_file_of_options_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "role.toml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(TreniError) as raised:
        role_command("tools", ["--config", str(path)])
    assert raised.value.code is Code.INVALID_ARGUMENT

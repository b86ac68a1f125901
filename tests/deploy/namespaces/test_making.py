"""Hosts made of namespaces: what each has of its own, and that nothing is left of them however their maker ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.namespaces.host import Host
from deploy.namespaces.making import Hosts, made
from tests.deploy.traces import KINDS, in_use, mounts, namespaces_of, wait_gone, wait_until
from tests.limits import HANG_S
from tests.places import ROOT
from treni.errors import Code, TreniError


@pytest.fixture(scope="module")
def hosts() -> Iterator[Hosts]:
    with made(["gpu", "cpu"]) as hosts:
        yield hosts


def said(host: Host, *command: str) -> str:
    return host.run(*command, timeout_s=HANG_S).stdout.strip()


@pytest.mark.namespaces
def test_each_host_has_everything_of_its_own(hosts: Hosts) -> None:
    gpu, cpu = hosts["gpu"], hosts["cpu"]
    here = namespaces_of(os.getpid())
    assert not namespaces_of(gpu.pid) & (namespaces_of(cpu.pid) | here)
    for host in (gpu, cpu):
        assert said(host, "hostname") == host.name
        assert said(host, "sh", "-c", "cat /etc/resolv.conf; ls /dev/shm; ls -A") == ""
        # The checkout is where it is, wherever that is.
        assert {Path("/tmp") / name for name in said(host, "ls", "/tmp").split()} <= {ROOT, *ROOT.parents}
        assert said(host, "sh", "-c", "cd; pwd") == said(host, "sh", "-c", "echo ~root") == "/run/home"
        assert said(host, "ps", "-e", "-o", "pid=").split()[0] == "1"
        said(host, "sh", "-c", "touch /tmp/mine ~/mine /dev/shm/mine /run/mine")
        assert host.path("/tmp/mine").exists()
    said(gpu, "touch", "/tmp/gpu")
    assert not cpu.path("/tmp/gpu").exists()
    assert not Path("/tmp/mine").exists()
    assert not Path("/dev/shm/mine").exists()


@pytest.mark.namespaces
@pytest.mark.parametrize("folder", ["/", "/etc", "/var/tmp", "/usr/local", str(Path(__file__).parent)])
def test_nothing_is_written_where_it_would_stay(hosts: Hosts, folder: str) -> None:
    done = hosts["gpu"].run("touch", f"{folder}/left-behind", timeout_s=HANG_S, check=False)
    assert done.returncode == 1
    assert "Read-only" in done.stderr


@pytest.mark.namespaces
def test_hosts_reach_each_other_by_name_and_nothing_else(hosts: Hosts) -> None:
    script = (
        "import socket, sys\n"
        "server = socket.create_server(('gpu', 7000))\n"
        "print('serves', flush=True)\n"
        "peer, address = server.accept()\n"
        "data = b''\n"
        "while len(data) < 100_000: data += peer.recv(65536)\n"
        "print(address[0], len(data))\n"
    )
    hosts.switch.count(7000, 7001)
    before = hosts.switch.traffic()
    serving = hosts["gpu"].start(sys.executable, "-c", script, stdout=subprocess.PIPE)
    assert serving.stdout is not None
    assert serving.stdout.readline() == "serves\n"
    send = "import socket; socket.create_connection(('gpu', 7000)).sendall(bytes(100_000))"
    said(hosts["cpu"], sys.executable, "-c", send)
    assert serving.communicate(timeout_s=HANG_S)[0] == f"{hosts['cpu'].address} 100000\n"
    after = hosts.switch.traffic()
    assert set(after) == {"gpu", "cpu"}
    assert after["cpu"].sent_bytes - before["cpu"].sent_bytes > 100_000
    assert after["gpu"].received_bytes - before["gpu"].received_bytes > 100_000
    assert after["gpu"].received_packets > before["gpu"].received_packets
    (flow,) = hosts.switch.flows()
    assert (flow.caller, flow.server, flow.port) == (hosts["cpu"].address, hosts["gpu"].address, 7000)
    assert flow.bytes_to > 100_000 > flow.bytes_back > 0
    assert flow.packets_to > 3
    assert flow.packets_back > 2
    assert said(hosts["cpu"], "ip", "route").splitlines() == [
        f"10.77.0.0/24 dev eth0 proto kernel scope link src {hosts['cpu'].address}"
    ]
    assert (
        hosts["cpu"].run("getent", "hosts", "elsewhere.example", timeout_s=HANG_S, check=False).returncode
        == 2
    )


@pytest.mark.namespaces
def test_a_process_on_a_host_gets_its_signals_and_gives_its_status(hosts: Hosts) -> None:
    counting = "trap 'exit 7' TERM; echo ready; while :; do sleep 0.01; done"
    process = hosts["gpu"].start("sh", "-c", counting, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    process.stop()
    assert process.poll() == 7
    assert process.pid is None
    process = hosts["gpu"].start("sleep", "1000")
    process.send_signal(signal.SIGKILL)
    assert process.wait(timeout_s=HANG_S) == -signal.SIGKILL


@pytest.mark.namespaces
def test_an_orphan_is_taken_note_of_when_it_ends(hosts: Hosts) -> None:
    gpu = hosts["gpu"]
    said(gpu, "sh", "-c", "(sh -c 'echo $$ > /tmp/orphan; exec sleep 0.01' &)")
    wait_until(lambda: gpu.path("/tmp/orphan").exists() and bool(gpu.path("/tmp/orphan").read_text()))
    orphan = gpu.path("/tmp/orphan").read_text().strip()
    wait_until(
        lambda: gpu.run("test", "-e", f"/proc/{orphan}", timeout_s=HANG_S, check=False).returncode == 1
    )


@pytest.mark.namespaces
def test_a_host_that_is_killed_is_gone_and_the_others_stay() -> None:
    with made(["one", "two"]) as hosts:
        running = hosts["one"].start("sh", "-c", "echo here; exec sleep 1000", stdout=subprocess.PIPE)
        assert running.stdout is not None
        running.stdout.readline()
        of_one = namespaces_of(hosts["one"].pid)
        hosts["one"].kill()
        hosts["one"].kill()
        assert running.wait(timeout_s=HANG_S) == -signal.SIGKILL
        wait_gone(of_one)
        assert said(hosts["two"], "hostname") == "two"
        wait_until(lambda: set(hosts.switch.traffic()) == {"two"})


@pytest.mark.namespaces
@pytest.mark.parametrize("ending", ["end", "error", "SIGINT", "SIGTERM", "SIGKILL"])
def test_nothing_is_left_however_the_maker_ends(ending: str) -> None:
    script = (
        "import sys, os, json\n"
        "from deploy.namespaces.making import made\n"
        "with made(['one', 'two']) as hosts:\n"
        "    for host in hosts.by_name.values():\n"
        "        host.run('sh', '-c', 'setsid sleep 1000 > /dev/null 2>&1 & echo > /tmp/left', timeout_s=600)\n"
        "        host.start('sh', '-c', 'trap : INT TERM HUP; while :; do sleep 1; done')\n"
        "    print(json.dumps([host.pid for host in hosts.by_name.values()]), flush=True)\n"
        "    if sys.stdin.readline() == 'error\\n':\n"
        "        raise RuntimeError('in the middle')\n"
    )
    before = mounts()
    maker = subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert maker.stdout is not None
    pids = json.loads(maker.stdout.readline())
    theirs = set[str]().union(*(namespaces_of(pid) for pid in pids))
    assert len(theirs) == 2 * len(KINDS)
    assert theirs <= in_use()
    if ending.startswith("SIG"):
        maker.send_signal(signal.Signals[ending])
        maker.communicate(timeout=HANG_S)
    else:
        maker.communicate(f"{ending}\n", timeout=HANG_S)
    wait_gone(theirs)
    assert not Path("/tmp/left").exists()
    assert mounts() == before


@pytest.mark.namespaces
def test_a_host_whose_outer_process_is_killed_is_gone() -> None:
    with made(["one"]) as hosts:
        theirs = namespaces_of(hosts["one"].pid)
        outer = (
            Path(f"/proc/{hosts['one'].pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()[1]
        )
        os.kill(int(outer), signal.SIGKILL)
        wait_gone(theirs)


@pytest.mark.parametrize(
    "names",
    [[], ["gpu", "gpu"], ["switch"], ["bridge"], ["lo"], ["localhost"], ["GPU"], ["a" * 16], ["a b"], [""]],
)
def test_names_that_are_none_are_refused(names: list[str]) -> None:
    with pytest.raises(TreniError) as raised, made(names):
        pass
    assert raised.value.code is Code.INVALID_ARGUMENT
    assert raised.value.kind == "hosts_misnamed"


def test_who_may_not_make_any_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(TreniError) as raised, made(["gpu"]):
        pass
    assert raised.value.code is Code.FAILED_PRECONDITION
    assert "user 1000; run this as root" in str(raised.value)


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_another_system_is_told_so(monkeypatch: pytest.MonkeyPatch, platform: str) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    with pytest.raises(TreniError) as raised, made(["gpu"]):
        pass
    assert raised.value.code is Code.FAILED_PRECONDITION
    assert platform in str(raised.value)


def test_a_machine_without_the_programs_is_told_which_packages_have_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(TreniError) as raised, made(["gpu"]):
        pass
    assert raised.value.code is Code.FAILED_PRECONDITION
    assert "apt-get install iproute2 mount util-linux" in str(raised.value)

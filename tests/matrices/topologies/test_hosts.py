"""Services that already run somewhere: what the file of hosts may say, and campaigns against services by hand."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from chaos.toxiproxy_build import ensure_server
from matrices.evidence import events as ev
from matrices.evidence.history import read_history
from tests.matrices import harness as h
from tests.matrices.topologies.hosts_files import write


@dataclass
class Byhand:
    """Roles that were started by hand, each by the command that a user types."""

    folder: Path
    addresses: dict[str, str]
    prefix: dict[str, list[str]]
    processes: dict[str, subprocess.Popen[str]]
    more: Mapping[str, Sequence[str]]

    def start(self, role: str) -> None:
        host, port = self.addresses[role].rsplit(":", 1)
        process = subprocess.Popen(
            [
                *self.prefix.get(role, []),
                *(
                    sys.executable,
                    "-m",
                    "matrices",
                    "serve",
                    role,
                    "--testbed",
                    "--host",
                    host,
                    "--port",
                    port,
                ),
                *("--state", str(self.folder / role)),
                *self.more.get(role, ()),
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        assert ready["service"] == role
        assert ready["address"].startswith(f"{host}:")
        self.addresses[role] = ready["address"]
        self.processes[role] = process

    def kill(self, role: str) -> None:
        self.processes[role].send_signal(signal.SIGKILL)
        self.processes[role].wait(timeout=h.WAIT_S)

    def file(self, more: str = "") -> Path:
        text = "".join(
            f'[[service]]\nrole = "{role}"\nhost = "host-{role}"\naddress = "{address}"\n'
            for role, address in self.addresses.items()
        )
        return write(self.folder / "hosts.toml", text + more)


@contextmanager
def by_hand(
    folder: Path,
    hosts: dict[str, str],
    prefix: dict[str, list[str]] | None = None,
    more: Mapping[str, Sequence[str]] = {},
) -> Iterator[Byhand]:
    """Each role at its host, on any free port, with `more` options."""
    running = Byhand(folder, {role: f"{host}:0" for role, host in hosts.items()}, prefix or {}, {}, more)
    try:
        for role in hosts:
            running.start(role)
        yield running
    finally:
        for process in running.processes.values():
            process.terminate()
        for process in running.processes.values():
            process.wait(timeout=h.WAIT_S)


LOOPBACKS = {"agent": "127.0.0.2", "controller": "127.0.0.3", "tools": "127.0.0.4"}
COUNTS = ("requests", "errors", "error_rate", "retries_mean_success")
ACCOUNTS = (
    *("faults_planned", "faults_delivered", "faults_observed", "pairs_void"),
    *("effects_recorded", "effects_lost", "effects_duplicate", "effects_phantom"),
)


def same_counts(one: h.Result, other: h.Result, profiles: list[str]) -> None:
    for profile in profiles:
        for arm in ("internal", "external"):
            mine, theirs = one.summary(profile, arm), other.summary(profile, arm)
            assert {name: mine[name] for name in COUNTS} == {name: theirs[name] for name in COUNTS}
        mine, theirs = one.comparison(profile), other.comparison(profile)
        named = [name for name in ACCOUNTS if name in theirs]
        assert len(named) >= 6
        assert {name: mine[name] for name in named} == {name: theirs[name] for name in named}


@pytest.mark.chaos
@pytest.mark.soak
def test_three_roles_by_hand_give_the_counts_of_local_and_the_same_runs(tmp_path: Path) -> None:
    arguments = (h.patient(tmp_path, "p03"), "--runs", "3")
    local = h.matrix(tmp_path / "local", *arguments)
    assert local.status in (0, 3), local.stderr
    (tmp_path / "state").mkdir()
    with by_hand(tmp_path / "state", LOOPBACKS) as services:
        hosts = h.matrix(tmp_path / "hosts", *arguments, "--topology", str(services.file()))
        # Once more against the same processes: nothing of the first campaign is found again.
        again = h.matrix(tmp_path / "again", *arguments, "--topology", str(services.file()))
    for result in (hosts, again):
        assert result.status in (0, 3), result.stderr
        assert h.verb("check", result.folder).returncode == 0
        same_counts(result, local, ["p03"])
        compare = [sys.executable, "-m", "matrices", "compare", str(local.folder), str(result.folder)]
        done = subprocess.run(compare, capture_output=True, text=True, timeout=h.WAIT_S, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    epochs = _epochs(tmp_path / "hosts")
    assert {len(set(of.values())) for of in epochs} == {3, 4}  # the A/A cell has a second agent
    assert len({of["tools"] for of in epochs}) == 1


@pytest.mark.chaos
@pytest.mark.slow
def test_a_service_that_is_killed_and_restarted_is_found_by_its_epoch_and_healed(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    out = tmp_path / "out"
    with by_hand(tmp_path / "state", LOOPBACKS) as services:
        profile = h.patient(tmp_path, "p00")
        arguments = (profile, "--suite", "tool_only", "--runs", "3", "--topology", str(services.file()))
        process = h.start(*arguments, "--out", str(out))
        h.wait_for(lambda: sum(e["type"] == "pair_complete" for e in h.events(out)) >= 2, process)
        services.kill("tools")
        services.start("tools")
        result = h.finish(process, out)
        assert result.status == 1
        ends = [
            event for event in h.events(out) if event["type"] == "cell_end" and event["status"] == "broken"
        ]
        assert len(ends) == 1
        epochs = {of["tools"] for of in _epochs(out)}
        assert "tools was restarted: epoch" in str(ends[0]["detail"]) or "does not answer" in str(
            ends[0]["detail"]
        )
        assert any(epoch in str(ends[0]["detail"]) for epoch in epochs) or "does not answer" in str(
            ends[0]["detail"]
        )
        assert "--resume" in result.stderr
        healed = h.resume(result.folder)
        assert healed.status in (0, 3), healed.stderr
        assert h.verb("check", healed.folder).returncode == 0


@pytest.mark.chaos
@pytest.mark.soak
def test_a_harness_that_is_killed_goes_on_and_a_state_that_was_lost_meanwhile_is_told(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    out = tmp_path / "out"
    with by_hand(tmp_path / "state", LOOPBACKS) as services:
        profile = h.patient(tmp_path, "p04")
        arguments = (profile, "--suite", "tool_only", "--runs", "3", "--topology", str(services.file()))
        process = h.start(*arguments, "--out", str(out))
        h.wait_for(lambda: _completed(out, "p04") >= 3, process)
        process.kill()
        process.communicate()
        shutil.move(tmp_path / "state" / "tools", tmp_path / "gone")
        refused = h.resume(h.folder_in(out))
        assert refused.status == 1
        assert "--state" in refused.stderr
        shutil.rmtree(tmp_path / "state" / "tools", ignore_errors=True)
        shutil.move(tmp_path / "gone", tmp_path / "state" / "tools")
        # In between it may have been started again: what counts is what it keeps.
        services.kill("tools")
        services.start("tools")
        result = h.resume(h.folder_in(out))
        assert result.status in (0, 3), result.stderr
        assert h.verb("check", result.folder).returncode == 0
        assert result.summary("p04", "external")["requests"] == "12"


def _epochs(out: Path) -> list[dict[str, str]]:
    """The epochs of each start of a cell, by role."""
    history = read_history(h.folder_in(out) / "history.jsonl")
    return [event.epochs for event in history.events if isinstance(event, ev.CellStarted)]


def _completed(out: Path, cell: str) -> int:
    return sum(event["type"] == "pair_complete" and event["cell"] == cell for event in h.events(out))


@pytest.mark.chaos
@pytest.mark.slow
def test_an_address_of_another_role_is_told(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    with by_hand(tmp_path / "state", {"controller": "127.0.0.3", "tools": "127.0.0.4"}) as services:
        services.addresses["agent"] = services.addresses.pop("tools")
        services.addresses["tools"] = "127.0.0.5:9"
        out = tmp_path / "out"
        process = h.start("p00", "--topology", str(services.file()), "--out", str(out))
        _, stderr = process.communicate(timeout=h.WAIT_S)
    assert process.returncode == 1
    assert "Traceback" not in stderr
    assert "127.0.0.4" in stderr or "127.0.0.5:9" in stderr


@contextmanager
def namespaces() -> Iterator[tuple[str, str]]:
    """Two network namespaces that reach each other at 10.77.0.1 and 10.77.0.2, and nothing else.

    Skips for who may not make any; for root a failure is one.
    """
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("network namespaces need root and the ip command")
    token = secrets.token_hex(3)
    names = (f"treni-{token}-a", f"treni-{token}-b")

    def ip(*arguments: str) -> None:
        subprocess.run(["ip", *arguments], check=True, timeout=60)

    try:
        for name in names:
            ip("netns", "add", name)
            ip("-n", name, "link", "set", "lo", "up")
        ip("-n", names[0], "link", "add", "v0", "type", "veth", "peer", "name", "v0", "netns", names[1])
        for number, name in enumerate(names, start=1):
            ip("-n", name, "address", "add", f"10.77.0.{number}/24", "dev", "v0")
            ip("-n", name, "link", "set", "v0", "up")
        yield names
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], check=False, timeout=60)


@pytest.mark.chaos
@pytest.mark.slow
@pytest.mark.namespaces
def test_two_network_namespaces_are_two_hosts(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    with namespaces() as (here, there):
        into = {name: ["ip", "netns", "exec", name] for name in (here, there)}
        hosts = {"agent": "10.77.0.1", "tools": "10.77.0.1", "controller": "10.77.0.2"}
        prefix = {"agent": into[here], "tools": into[here], "controller": into[there]}
        proxy = subprocess.Popen([*into[there], str(ensure_server()), "-host", "10.77.0.2", "-port", "8474"])
        try:
            open_doors = {role: ["--insecure"] for role in hosts}
            with by_hand(tmp_path / "state", hosts, prefix, open_doors) as services:
                file = services.file('[toxiproxy]\nhost = "there"\naddress = "10.77.0.2:8474"\n')
                profile = h.patient(tmp_path, "p03")
                arguments = (profile, "--suite", "tool_only", "--runs", "3")
                process = subprocess.Popen(
                    [
                        *into[here],
                        *(sys.executable, "-m", "matrices", "matrix", *arguments),
                        *("--topology", str(file), "--out", str(tmp_path / "hosts")),
                    ],
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
                result = h.finish(process, tmp_path / "hosts")
        finally:
            proxy.terminate()
            proxy.wait(timeout=h.WAIT_S)
    assert result.status in (0, 3), result.stderr
    local = h.matrix(tmp_path / "local", *arguments)
    same_counts(result, local, ["p03"])
    assert h.verb("check", result.folder).returncode == 0

"""Campaigns behind doors: the same counts and findings as without, and no key in anything that they leave or show."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from matrices.evidence.campaign import plan_campaign
from matrices.spec.profiles import select_profiles
from matrices.topologies.hosts_file import read_hosts
from matrices.topologies.registry import chosen, topology
from tests.matrices import harness as h
from tests.matrices.topologies.hosts_files import WHOLE, write
from tests.matrices.topologies.test_hosts import LOOPBACKS, by_hand, same_counts
from tests.matrices.topologies.test_topology import OPTIONS
from tests.proto.certificates import Authority, key_file
from treni.errors import Code, TreniError

ALL = "shown-by-harness-and-controller-11"
OF_AGENT = "only-the-agent-has-this-one-222222"
OF_TOOLS = "only-the-tools-have-this-one-33333"
SECRETS = (ALL, OF_AGENT, OF_TOOLS)


@contextmanager
def seen(found: list[str], secrets: tuple[str, ...]) -> Iterator[set[str]]:
    """Looks all the while at the command lines and environments of this process's descendants.

    `found` gets whatever shows a secret; the block gets the programs that were looked at.
    """
    over = threading.Event()
    programs: set[str] = set()

    def look() -> None:
        while not over.is_set():
            for process in psutil.Process().children(recursive=True):
                try:
                    words = process.cmdline()
                    text = " ".join(words) + str(process.environ())
                except psutil.Error:
                    continue
                programs.update(word for word in words if word.startswith(("matrices", "-port")))
                found.extend(" ".join(words) for secret in secrets if secret in text)
            over.wait(0.2)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield programs
    finally:
        over.set()
        thread.join()


def files_with(folder: Path, secrets: tuple[str, ...]) -> tuple[int, list[Path]]:
    """How many files there are in the folder, and which of them hold a secret in any way that it may be written."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return len(files), [
        path for path in files if any(secret.encode() in path.read_bytes() for secret in secrets)
    ]


@pytest.mark.chaos
@pytest.mark.slow
@pytest.mark.parametrize("profiles", ["p03", pytest.param("p00,p01,p02,p03,p04,p05", marks=pytest.mark.soak)])
def test_hosts_with_keys_and_certificates_give_the_counts_of_local_and_leave_no_key_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, profiles: str
) -> None:
    """The proxies carry TLS, and who is behind them has to name itself all the same."""
    arguments = (h.patient(tmp_path, profiles), "--runs", "1", "--suite", "tool_only")
    local = h.matrix(tmp_path / "local", *arguments)
    assert local.status in (0, 3), local.stderr
    monkeypatch.setenv("TRENI_LOG_LEVEL", "debug")
    secret, state = tmp_path / "secret", tmp_path / "state"
    secret.mkdir()
    state.mkdir()
    authority = Authority(secret)
    mine = authority.issue("harness")
    files = {
        "agent": key_file(secret, OF_AGENT, ALL, name="agent"),
        "controller": key_file(secret, ALL, name="controller"),
        "tools": key_file(secret, OF_TOOLS, ALL, name="tools"),
    }
    more = {}
    for role, keys in files.items():
        pair = authority.issue(LOOPBACKS[role])
        tls = ("--tls-cert", pair.certificate, "--tls-key", pair.key, "--tls-client-ca", authority.ca)
        more[role] = [str(one) for one in ("--key-file", keys, *tls)]
    tables = f"""
[[door]]
key_file = "{secret.name}/controller"
ca = "{authority.ca}"
cert = "{mine.certificate}"
key = "{mine.key}"

[[door]]
host = "host-tools"
key_file = "{files["tools"]}"
ca = "{authority.ca}"
cert = "{mine.certificate}"
key = "{mine.key}"
"""
    found: list[str] = []
    with by_hand(state, LOOPBACKS, more=more) as services, seen(found, SECRETS) as programs:
        file = write(tmp_path / "hosts.toml", services.file().read_text(encoding="utf-8") + tables)
        result = h.matrix(tmp_path / "hosts", *arguments, "--topology", str(file))
    assert result.status in (0, 3), result.stderr
    same_counts(result, local, profiles.split(","))
    assert h.verb("check", result.folder).returncode == 0
    assert {"matrices.topologies.serve", "matrices"} <= programs
    assert "-port" in programs
    assert found == []
    for folder in (tmp_path / "hosts", state):
        count, holding = files_with(folder, SECRETS)
        assert count > 5
        assert holding == []
    for text in (result.stdout, result.stderr, h.verb("report", result.folder).stdout):
        assert not any(secret in text for secret in SECRETS)


@pytest.mark.chaos
@pytest.mark.slow
@pytest.mark.parametrize("stranger", ["controller", pytest.param("harness", marks=pytest.mark.soak)])
def test_who_is_not_let_in_says_so_and_nothing_is_run(tmp_path: Path, stranger: str) -> None:
    state = tmp_path / "state"
    state.mkdir()
    keys, other = key_file(tmp_path, ALL, name="keys"), key_file(tmp_path, OF_AGENT, name="other")
    more = {role: ["--key-file", str(keys)] for role in LOOPBACKS}
    if stranger == "controller":
        more["controller"] += ["--peer-key-file", str(other)]
    shown = other if stranger == "harness" else keys
    with by_hand(state, LOOPBACKS, more=more) as services:
        text = services.file().read_text(encoding="utf-8")
        file = write(tmp_path / "hosts.toml", f'{text}[[door]]\nkey_file = "{shown}"\n')
        process = h.start("p00", "--topology", str(file), "--out", str(tmp_path / "out"))
        _, stderr = process.communicate(timeout=h.WAIT_S)
    assert process.returncode == 1, stderr
    assert "not known here" in stderr
    assert not [event for event in h.events(tmp_path / "out") if event["type"] == "pair_complete"]
    assert "key_file" in stderr
    assert "Traceback" not in stderr
    assert OF_AGENT not in stderr


@pytest.mark.chaos
@pytest.mark.slow
@pytest.mark.soak
def test_a_campaign_on_this_machine_behind_a_key_of_its_own(tmp_path: Path) -> None:
    """With more clients than one, a twin's model, and a fault that kills a service, which comes back behind the key."""
    clients = ("--workers", "2", "--concurrency", "2")
    arguments = (h.patient(tmp_path, "n04,b01"), "--runs", "1", "--suite", "tool_only", *clients)
    result = h.matrix(tmp_path / "out", *arguments, "--topology", "local:keys")
    assert result.status in (0, 3), result.stderr
    assert h.verb("check", result.folder).returncode == 0
    told = (result.folder / "manifest.json").read_text(encoding="utf-8")
    assert '"keys": true' in told


DOOR = '[[door]]\nkey_file = "keys"\n'


@pytest.mark.parametrize(
    ("text", "word"),
    [
        (WHOLE + DOOR + DOOR, "one door for all others"),
        (WHOLE + DOOR + 'host = "four"\n', "the door of a host in the file, got that of four"),
        (WHOLE + DOOR.replace("key_file", "keyfile"), "door.0"),
        (WHOLE + '[[door]]\nkey_file = ""\n', "door.0.key_file"),
        (
            WHOLE.replace("127.0.0.3:7001", "127.0.0.2:7002") + DOOR + 'host = "two"\n',
            "one door for what is at",
        ),
    ],
)
def test_doors_that_are_none_are_refused_with_the_file(tmp_path: Path, text: str, word: str) -> None:
    path = write(tmp_path / "hosts.toml", text)
    with pytest.raises(TreniError, match=r"hosts\.toml") as raised:
        read_hosts(path)
    assert raised.value.code is Code.INVALID_ARGUMENT
    assert word in str(raised.value)


def test_what_is_wrong_with_a_doors_files_is_said_before_anything_runs(tmp_path: Path) -> None:
    key_file(tmp_path, ALL, name="open", mode=0o644)
    for door, word in (
        (DOOR, "keys"),
        ('[[door]]\nkey_file = "open"\n', "chmod 600"),
        ('[[door]]\nca = "open"\n', "PEM"),
        ('[[door]]\ncert = "open"\n', "authority"),
    ):
        file = write(tmp_path / "hosts.toml", WHOLE + door)
        campaign = plan_campaign(tmp_path, OPTIONS, select_profiles("p00"))
        with pytest.raises(TreniError, match=word) as raised:
            topology(*chosen(str(file))).refuse(campaign)
        assert raised.value.code is Code.INVALID_ARGUMENT
        assert ALL not in str(raised.value)

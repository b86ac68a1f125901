"""`python -m deploy.gpu_split` with the NumPy backend: two hosts that exist for as long as it runs, and no longer."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from chaos.toxiproxy_build import ensure_server
from tests.matrices import harness as h
from tests.matrices.topologies.test_hosts import same_counts
from tests.processes import wait_gone

MODULE = ("-m", "deploy.gpu_split")

pytestmark = [pytest.mark.chaos, pytest.mark.slow, pytest.mark.namespaces]
needs_namespaces = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("ip") is None, reason="network namespaces need root and the ip command"
)


def begin(*arguments: str) -> subprocess.Popen[str]:
    ensure_server()
    return subprocess.Popen(
        [sys.executable, *MODULE, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def processes_of(process: subprocess.Popen[str]) -> set[int]:
    """Everything that runs below it by now: hosts, roles, the matrix, its proxies."""
    return {child.pid for child in psutil.Process(process.pid).children(recursive=True)}


def tasks(folder: Path) -> tuple[str, ...]:
    return (h.patient(folder, "p03"), "--backend", "numpy", "--out", str(folder / "split"))


MORE = ("--", "--suite", "tool_only", "--runs", "3")


@needs_namespaces
@pytest.mark.soak
def test_the_matrix_across_the_link_has_the_counts_of_one_machine_and_packets_crossed(tmp_path: Path) -> None:
    process = begin(*tasks(tmp_path), *MORE)
    h.wait_for(lambda: any(e["type"] == "pair_complete" for e in h.events(tmp_path / "split")), process)
    below = processes_of(process)
    assert len(below) >= 8  # two hosts, four roles, the matrix, the proxies
    stdout, stderr = process.communicate(timeout=h.WAIT_S)
    assert process.returncode in (0, 3), stderr
    wait_gone(below)
    (history,) = (tmp_path / "split").glob("*/history.jsonl")
    split = h.Result(status=process.returncode, stdout=stdout, stderr=stderr, folder=history.parent)
    assert h.verb("check", split.folder).returncode == 0
    local = h.matrix(tmp_path / "local", h.patient(tmp_path, "p03"), *MORE[1:])
    same_counts(split, local, ["p03"])
    link = json.loads((tmp_path / "split" / "link.json").read_text())
    # The model hop of every external request and the client's call of the agent, each with an answer at least.
    requests = int(split.summary("p03", "external")["requests"])
    assert all(link[host][way] > requests for host in link for way in ("sent_packets", "received_packets"))
    assert link["gpu"]["received_packets"] == link["cpu"]["sent_packets"]


@needs_namespaces
@pytest.mark.parametrize(
    ("number", "status"),
    [
        (signal.SIGINT, 130),
        pytest.param(signal.SIGTERM, 143, marks=pytest.mark.soak),
        pytest.param(signal.SIGKILL, -signal.SIGKILL, marks=pytest.mark.soak),
    ],
)
def test_whatever_ends_it_nothing_is_left(tmp_path: Path, number: signal.Signals, status: int) -> None:
    process = begin(*tasks(tmp_path), *MORE)
    h.wait_for(lambda: any(e["type"] == "pair_complete" for e in h.events(tmp_path / "split")), process)
    below = processes_of(process)
    assert len(below) >= 8
    process.send_signal(number)
    _, stderr = process.communicate(timeout=h.WAIT_S)
    assert process.returncode == status
    assert "Traceback" not in stderr
    wait_gone(below)


@needs_namespaces
def test_a_campaign_that_is_refused_ends_it_with_its_status(tmp_path: Path) -> None:
    process = begin("p99", "--backend", "numpy", "--out", str(tmp_path / "split"))
    _, stderr = process.communicate(timeout=h.WAIT_S)
    assert process.returncode == 2
    assert "p99" in stderr
    assert "Traceback" not in stderr


# CAP_SYS_ADMIN (21) and CAP_NET_ADMIN (12) taken out of what a root's program may ever have: capabilities(7).
DROP = "import ctypes; ctypes.CDLL(None).prctl(24, {}, 0, 0, 0)"


@needs_namespaces
@pytest.mark.parametrize(
    ("statement", "word"),
    [
        ("os.environ['PATH'] = '/nonexistent'", "iproute2"),
        (DROP.format(21), "namespace"),
        (DROP.format(12), "link add"),
    ],
)
def test_a_machine_that_cannot_be_split_is_told_what_it_lacks(
    tmp_path: Path, statement: str, word: str
) -> None:
    ensure_server()
    command = h.after(statement, *MODULE, "p00", "--backend", "numpy", "--out", str(tmp_path / "split"))
    done = subprocess.run(command, capture_output=True, text=True, timeout=h.WAIT_S, check=False)
    assert done.returncode == 1
    assert word in done.stderr
    assert "Traceback" not in done.stderr


@needs_namespaces
def test_who_is_not_root_is_told_so(tmp_path: Path) -> None:
    # Not by a new process: this interpreter need not be where others may read.
    arguments = ["p00", "--backend", "numpy", "--out", str(tmp_path / "split")]
    script = f"import os; from deploy.gpu_split import main; os.setuid(65534); main({arguments})"
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=h.WAIT_S, check=False)
    assert done.returncode == 1
    assert "expected root" in done.stderr
    assert "Traceback" not in done.stderr


def test_what_it_decides_itself_is_no_option_of_the_campaign(tmp_path: Path) -> None:
    process = begin("p00", "--out", str(tmp_path / "split"), "--", "--topology=local")
    _, stderr = process.communicate(timeout=h.WAIT_S)
    assert process.returncode == 2
    assert "--topology" in stderr
    assert not (tmp_path / "split").exists()

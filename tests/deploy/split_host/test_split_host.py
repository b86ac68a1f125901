"""`make split-host`: the published placement gives what one host gives, and nothing is left however it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from matrices.evidence import chain
from tests.deploy.traces import made_by, mounts, wait_gone, wait_until
from tests.limits import HANG_S
from tests.matrices import harness as h
from tests.places import ROOT

pytestmark = [pytest.mark.namespaces, pytest.mark.chaos, pytest.mark.slow]


@contextmanager
def make(folder: Path, profiles: str, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """`make split-host` in a process group of its own, whose words go to the file."""
    (folder / "tmp").mkdir()
    said = folder / "said"
    with said.open("wb") as file:
        process = subprocess.Popen(
            ["make", "split-host", f"PROFILES={profiles}", "RUNS=3", *arguments],
            cwd=ROOT,
            env={**os.environ, "TMPDIR": str(folder / "tmp")},
            stdout=file,
            stderr=subprocess.STDOUT,
            text=True,
            process_group=0,
        )
    try:
        yield process, said
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def test_split_hosts_do_what_one_host_does_over_a_link_that_both_hops_cross(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with make(tmp_path, h.patient(tmp_path, "p03"), f"OUT={out}") as (process, said):
        status = process.wait(timeout=h.WAIT_S)
    assert status == 0, said.read_text(encoding="utf-8")
    (kept,) = out.iterdir()
    folders = {
        one.name: next(one.iterdir()) if not (one / "manifest.json").exists() else one
        for one in kept.iterdir()
    }
    assert set(folders) == {"local", "hosts", "apart"}
    for name in ("hosts", "apart"):
        manifest = (folders[name] / "manifest.json").read_bytes()
        link = json.loads(
            (folders[name] / json.loads(manifest)["details"]["placement"]["hosts"]["link"]).read_text()
        )
        assert link["manifest_sha256"] == chain.digest(manifest)
        assert link["history_sha256"] == chain.digest((folders[name] / "history.jsonl").read_bytes())
        hops = {one["hop"]: one for one in link["hops"]}
        assert min(hops["model hop"]["packets_to"], hops["model hop"]["packets_back"]) > 0
        assert (hops["tool hop"]["packets_to"] > 0) is (name == "apart")
        assert set(link["after"]["traffic"]) == {"gpu", "cpu", "tools", "client"}
        assert h.verb("check", folders[name]).returncode == 0
    compare = [sys.executable, "-m", "matrices", "compare", str(folders["local"]), str(folders["hosts"])]
    assert subprocess.run(compare, capture_output=True, timeout=HANG_S, check=False).returncode == 0


@pytest.mark.parametrize("ending", ["ctrl-c", "kill -9 of make", "a service that dies"])
def test_nothing_is_left_however_it_ends(tmp_path: Path, ending: str) -> None:
    before = mounts()
    with make(tmp_path, h.patient(tmp_path, "p00")) as (process, said):
        wait_until(lambda: "cell=p00" in said.read_text() and "split hosts" in said.read_text())
        wait_until(lambda: said.read_text().count("cell begins") >= 3)
        theirs = made_by(process.pid)
        assert len(theirs) >= 5 * 5
        match ending:
            case "ctrl-c":
                os.killpg(process.pid, signal.SIGINT)
            case "kill -9 of make":
                process.kill()
            case _:
                _controller(process.pid).kill()
        status = process.wait(timeout=h.WAIT_S)
    assert status != 0
    wait_gone(theirs)
    assert mounts() == before
    assert list((tmp_path / "tmp").iterdir()) == []
    if ending == "a service that dies":
        assert "expected `treni-route matrix" in said.read_text()
        assert "controller.log on cpu ends" in said.read_text()
    assert "Traceback" not in said.read_text()


def _controller(pid: int) -> psutil.Process:
    for child in psutil.Process(pid).children(recursive=True):
        if "controller" in child.cmdline() and "matrices.topologies.serve" in child.cmdline():
            return child
    raise AssertionError("no controller runs")

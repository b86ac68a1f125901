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

from deploy.split_host.ray_cluster import has_ray
from matrices.evidence import chain
from tests.deploy.traces import made_by, mounts, wait_gone, wait_until
from tests.limits import HANG_S
from tests.matrices import harness as h
from tests.places import ROOT

pytestmark = [pytest.mark.namespaces, pytest.mark.chaos, pytest.mark.slow]


@contextmanager
def make(
    folder: Path, profiles: str, *arguments: str, runs: int = 3
) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """`make split-host` in a process group of its own, whose words go to the file."""
    (folder / "tmp").mkdir()
    said = folder / "said"
    with said.open("wb") as file:
        process = subprocess.Popen(
            ["make", "split-host", f"PROFILES={profiles}", f"RUNS={runs}", *arguments],
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
    assert {one.name for one in kept.iterdir()} == {
        "local",
        "hosts",
        "apart",
        *(["ray"] if has_ray() else []),
    }
    for campaign in kept.iterdir():
        assert h.verb("check", campaign).returncode == 0
        if campaign.name == "local":
            continue
        manifest = (campaign / "manifest.json").read_bytes()
        link = json.loads((campaign / "link.json").read_text(encoding="utf-8"))
        assert link["manifest_sha256"] == chain.digest(manifest)
        assert link["history_sha256"] == chain.digest((campaign / "history.jsonl").read_bytes())
        if campaign.name != "ray":
            assert json.loads(manifest)["details"]["placement"]["hosts"]["link"] == "link.json"
        crossed = {
            hop["hop"]: hop["packets_to"] > 0 and hop["packets_back"] > 0 and hop["bytes_to"] > 0
            for hop in link["hops"]
        }
        assert crossed.pop("tool hop") is (campaign.name == "apart")
        # On the cluster the harness is beside the controller: its call of the external arm stays there too.
        assert list(crossed.values()) == ([True, False] if campaign.name == "ray" else [True, True, True])
        assert set(link["after"]["traffic"]) == {"gpu", "cpu", "tools", "client"}
    for name in ("hosts", "ray") if has_ray() else ("hosts",):
        compare = [sys.executable, "-m", "matrices", "compare", str(kept / "local"), str(kept / name)]
        assert subprocess.run(compare, capture_output=True, timeout=HANG_S, check=False).returncode == 0


@pytest.mark.parametrize("ending", ["ctrl-c", "kill -9 of make", "a service that dies"])
def test_nothing_is_left_however_it_ends(tmp_path: Path, ending: str) -> None:
    before = mounts()
    with make(tmp_path, h.patient(tmp_path, "p00"), runs=1) as (process, said):
        wait_until(lambda: "cell begins" in said.read_text().partition("--topology")[2])
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


@pytest.mark.skipif(not has_ray(), reason="needs the extra ray: make setup-ray")
def test_nothing_is_left_of_a_cluster_whose_maker_is_killed() -> None:
    script = (
        "import sys\n"
        "from deploy.namespaces.making import made\n"
        "from deploy.split_host.ray_cluster import ray_cluster\n"
        "with made(['gpu', 'cpu', 'client']) as hosts, ray_cluster(hosts):\n"
        "    print('up', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    before = mounts()
    maker = subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert maker.stdout is not None
    assert maker.stdout.readline() == "up\n"
    theirs = made_by(maker.pid)
    assert len(theirs) == 4 * 5
    maker.kill()
    maker.communicate()
    wait_gone(theirs)
    assert mounts() == before

"""A tools service that was paused, replaced and let go on: what it does when a call reaches it, fenced and not."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from chaos.toxiproxy import ToxiproxyClient, ToxiproxyServer
from tests.matrices import harness as h
from tests.matrices.topologies.hosts_files import write
from tests.matrices.topologies.test_hosts import by_hand
from tools_svc.ledger_append import read_effects

NAME = "127.0.1.3"
"""The address that callers know; a proxy there leads to whichever service has it."""

PROFILE = """
name = "moving"
title = "The tools move to another host"
[policy]
tool_timeout = "60s"
run_timeout = "600s"
retries = 10
backoff_initial = "200ms"
backoff_max = "10s"
[faults]
site = "hop"
by = "attempt"
"""
CELL = "moving"


@dataclass(kw_only=True)
class Tools:
    """A tools service on a host of its own, with state of its own."""

    host: str
    folder: Path
    process: subprocess.Popen[str] = field(init=False)
    port: int = field(init=False)

    def start(self, service_port: int) -> None:
        self.folder.mkdir()
        options = (
            "--host",
            self.host,
            "--service-port",
            str(service_port),
            "--state",
            str(self.folder / "state"),
        )
        self.process = subprocess.Popen(
            [sys.executable, "-m", "matrices", "serve", "tools", "--testbed", *options],
            stdout=subprocess.PIPE,
            stderr=self.log.open("wb"),
            text=True,
        )
        assert self.process.stdout is not None
        self.port = int(json.loads(self.process.stdout.readline())["address"].rpartition(":")[2])

    @property
    def log(self) -> Path:
        return self.folder / "log"

    @property
    def refusals(self) -> int:
        return self.log.read_text(encoding="utf-8").count("refused: ")

    def rows(self, start: int) -> list[str]:
        """The runs of the harness's start number `start` that have a row in one of its ledgers."""
        ledgers = self.folder.glob("state/**/ledger-tools.sqlite")
        return [
            row.run_id
            for ledger in ledgers
            for row in read_effects(ledger)
            if row.run_id.endswith(f"/{start}") and f"{CELL}/" in row.run_id
        ]


@contextmanager
def two_tools(folder: Path, service_port: int) -> Iterator[tuple[Tools, Tools]]:
    both = tuple(Tools(host=f"127.0.1.{n}", folder=folder / f"tools-{n}") for n in (1, 2))
    try:
        for one in both:
            one.start(service_port)
        yield both[0], both[1]
    finally:
        for one in both:
            one.process.kill()
            one.process.wait(timeout=h.WAIT_S)


class Name:
    """The address under which callers know the tools."""

    def __init__(self, proxies: ToxiproxyClient) -> None:
        self._proxies = proxies
        # Ports that are free now, and stay: the proxies hold them between moves but for a moment.
        made = [
            proxies.create_proxy(n, upstream="127.0.0.1:9", listen=f"{NAME}:0")
            for n in ("evidence", "service")
        ]
        self.evidence, self.service = (int(one.listen.rpartition(":")[2]) for one in made)

    def lead(self, tools: Tools, *, evidence: bool = True) -> None:
        """Cuts every connection and leads new ones to these tools; without `evidence` those of the service alone."""
        for name, port, upstream in (
            ("evidence", self.evidence, tools.port),
            ("service", self.service, self.service),
        ):
            if name == "service" or evidence:
                self._proxies.delete_proxy(name)
                self._proxies.create_proxy(name, upstream=f"{tools.host}:{upstream}", listen=f"{NAME}:{port}")


def outcomes(out: Path, start: int) -> list[dict[str, Any]]:
    """How the cell's runs ended under the harness's start number `start`, so far."""
    ended = [event for event in h.events(out) if event["type"] == "outcome" and event["cell"] == CELL]
    return [event for event in ended if event["run_id"].endswith(f"/{start}")]


@pytest.mark.chaos
@pytest.mark.slow
@pytest.mark.parametrize("fenced", [True, pytest.param(False, marks=pytest.mark.soak)])
async def test_a_stale_service_is_refused_or_its_effects_are_lost(tmp_path: Path, fenced: bool) -> None:
    suite = h.write_suite(tmp_path / "suite.jsonl", h.tool_tasks("ledger_append")[:12], per_run=4)
    profile, out = write(tmp_path / "moving.toml", PROFILE), tmp_path / "out"
    (tmp_path / "state").mkdir()
    async with await ToxiproxyServer.start() as server:
        name = Name(ToxiproxyClient(server.address))
        loopbacks = {"agent": "127.0.0.2", "controller": "127.0.0.3"}
        with (
            two_tools(tmp_path, name.service) as (old, new),
            by_hand(tmp_path / "state", loopbacks) as others,
        ):
            name.lead(old)
            others.addresses["tools"] = f"{NAME}:{name.evidence}"
            process = h.start(
                *(str(profile), "--suite", str(suite), "--runs", "3", "--topology", str(others.file())),
                *("--out", str(out), *(() if fenced else ("--no-fencing",))),
            )
            h.wait_for(lambda: len(outcomes(out, 0)) >= 2, process)
            # The old one stops in the middle of whatever it does, and another host takes its name over.
            old.process.send_signal(signal.SIGSTOP)
            name.lead(new)
            broken = h.finish(process, out)
            assert broken.status == 1
            assert "--resume" in broken.stderr
            old.process.send_signal(signal.SIGCONT)

            process = h.start("--resume", str(broken.folder))
            h.wait_for(lambda: len(outcomes(out, 1)) >= 2, process)
            # It is back, knows of nothing, and somebody's old route leads to it.
            await asyncio.to_thread(name.lead, old, evidence=False)
            # By the second call the first one's answer has been read, so that cutting its connection takes none away.
            h.wait_for(lambda: (old.refusals if fenced else len(old.rows(1))) >= 2, process)
            await asyncio.to_thread(name.lead, new, evidence=False)
            result = h.finish(process, out)
            strayed = old.rows(1)
            reached = set(new.rows(1))
    found = h.verb("check", result.folder).stdout
    external = result.summary(CELL, "external")
    counted = {
        name: int(external[f"effects_{name}"]) for name in ("recorded", "lost", "duplicate", "phantom")
    }
    ended = outcomes(out, 1)
    assert len(ended) == 2 * 12
    assert all(one["error"] is None for one in ended)
    refused = {
        attempt["kind"]
        for one in ended
        for attempt in one["record"]["attempts"]
        if attempt["outcome"] == "fail"
    }
    if fenced:
        assert refused == {"stale_epoch"}
        assert strayed == []
        assert len(reached) == 12
        assert counted == {"recorded": 12, "lost": 0, "duplicate": 0, "phantom": 0}, found
    else:
        assert refused == set()
        # The answer of the last one may have been cut off: it was called again, and is in the new ledger too.
        lost = set(strayed) - reached
        assert lost
        assert counted == {"recorded": len(reached), "lost": len(lost), "duplicate": 0, "phantom": 0}, found
        assert "effect_lost [moving external" in found
        assert "fencing off" in (result.folder / "summary.md").read_text(encoding="utf-8")
        manifest = json.loads((result.folder / "manifest.json").read_bytes())
        assert manifest["details"]["fencing"] is False

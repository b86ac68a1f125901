"""Rules by promtool, and a live Prometheus on a real matrix: every page is clean, every panel has an answer."""

from __future__ import annotations

import asyncio
import json
import math
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from dashboards.boards import BOARDS
from dashboards.charts import WINDOW
from deploy.observe.prometheus import CONFIG, Prometheus, program, prometheus
from tests.limits import HANG_S
from tests.places import ROOT
from treni.errors import TreniError
from treni.metrics import Page
from treni.metrics_host import add_machine

pytestmark = pytest.mark.observe

PROFILES = "p03,n05"
"""Faults that are retried, and hosts that are struck and come back: every panel has something to show."""

RUNS = 12
"""So many that services live on for some scrapes after the first error of a request."""
ROLES = {"harness", "runtime", "model", "controller", "tools", "host"}


def promtool(*arguments: str, given: bytes = b"") -> None:
    tool = shutil.which("promtool", path=str(program(None).resolve().parent)) or "promtool"
    done = subprocess.run([tool, *arguments], input=given, capture_output=True, check=False)
    said = (done.stdout + done.stderr).decode()
    assert done.returncode == 0, said


def test_the_configurations_are_ones(tmp_path: Path) -> None:
    for name in ("prometheus.yml", "compose.yml"):
        promtool("check", "config", str(CONFIG / name))


def test_rules_fire_where_they_should_and_nowhere_else() -> None:
    promtool("check", "rules", *map(str, CONFIG.glob("*.rules.yml")))
    promtool("test", "rules", *map(str, (CONFIG / "tests").glob("*.test.yml")))


def test_a_prometheus_that_is_not_there_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(TreniError, match="PROMETHEUS=") as caught:
        program(tmp_path / "none")
    assert caught.value.kind == "prometheus_missing"


def test_what_cannot_be_run_is_said_before_anything_starts() -> None:
    command = [sys.executable, "-m", "deploy.observe", "--matrix", "p00 --out 'here"]
    done = subprocess.run(command, capture_output=True, check=False, cwd=ROOT, text=True)
    assert done.returncode == 2
    assert "end the quotation" in done.stderr
    assert "Traceback" not in done.stderr


async def test_a_configuration_that_is_none_is_said_and_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "prometheus.yml").write_text("scrape_configs: 3\n", encoding="utf-8")
    monkeypatch.setattr("deploy.observe.prometheus.CONFIG", tmp_path / "config")
    with pytest.raises(TreniError, match="cannot unmarshal") as caught:
        async with prometheus(tmp_path / "work", binary=program(None)):
            pass
    assert caught.value.kind == "prometheus_not_ready"


async def test_a_matrix_is_scraped_and_every_panel_has_an_answer(tmp_path: Path) -> None:
    binary = program(None)
    async with asyncio.timeout(HANG_S), prometheus(tmp_path / "prometheus", binary=binary) as server:
        began_s = time.time()
        pages = await matrix(server, tmp_path)
        ended_s = time.time()
        assert set(pages) == ROLES
        for role, page in pages.items():
            assert page, role
            promtool("check", "metrics", given=page)
        empty, filled = await answers(server, began_s, ended_s)
        missing = [name for name, requires in empty if requires != "gpu" or has_gpu()]
        assert not missing, "\n".join(missing)
        assert len(filled) > 40
        assert {rule["health"] for rule in await server.rules()} == {"ok"}
        # The ones of a run that ended well have nothing to say.
        for name in ("TreniServiceStuck", "TreniDuplicateEffects", "TreniNotRecovered"):
            assert await server.now(f'ALERTS{{alertname="{name}", alertstate="firing"}}') == []


async def matrix(server: Prometheus, folder: Path) -> dict[str, bytes]:
    """A small matrix to its end; the last page that each role had."""
    listed = server.targets / "matrix.json"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "matrices", "matrix", PROFILES, "--runs", str(RUNS)),
        *("--metrics-port", "0", "--metrics-targets", str(listed), "--out", str(folder / "out")),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=ROOT,
    )
    pages: dict[str, bytes] = {}
    told = asyncio.create_task(process.communicate())
    async with httpx.AsyncClient() as client:
        while not told.done():
            for role, url in targets(listed).items():
                try:
                    pages[role.removesuffix("_b")] = (await client.get(url)).content
                except httpx.TransportError:  # it has ended since
                    continue
            await asyncio.wait({told}, timeout=1.0)
    output, _ = told.result()
    assert process.returncode in (0, 3), output.decode()
    assert json.loads(listed.read_text(encoding="utf-8")) == []
    return pages


def targets(path: Path) -> dict[str, str]:
    if not path.exists():
        return {}
    groups = json.loads(path.read_text(encoding="utf-8"))
    return {group["labels"]["role"]: f"http://{group['targets'][0]}/metrics" for group in groups}


async def answers(
    server: Prometheus, began_s: float, ended_s: float
) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """The queries that had no number in all that time, and those that had, with what their panels require.

    A wrong query raises.
    """
    empty: list[tuple[str, str]] = []
    filled: list[tuple[str, str]] = []
    for board in BOARDS:
        asked = [(query.expr, chart.requires) for chart in board.charts for query in chart.queries]
        asked += [(annotation.expr, "") for annotation in board.annotations]
        for expr, requires in asked:
            filled_in = expr.replace(WINDOW, "15s").replace("$arm", ".+").replace("$profile", ".+")
            series = await server.over(filled_in, start_s=began_s, end_s=ended_s)
            (filled if any(map(has_number, series)) else empty).append((f"{board.uid}: {expr}", requires))
    return empty, filled


def has_number(series: dict[str, Any]) -> bool:
    return any(not math.isnan(float(value)) for _, value in series["values"])


def has_gpu() -> bool:
    page = Page()
    add_machine(page)
    return b"treni_host_gpu_memory_bytes{" in page.text()

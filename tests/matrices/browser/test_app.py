"""What the pages of `treni-route reports` answer: to whom, with what, and without touching a campaign."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from matrices.browser.app import application
from matrices.browser.folder import Campaigns
from tests.places import ROOT

EXAMPLE = ROOT / "examples" / "matrix-h200" / "run"
HERE = "http://127.0.0.1:8350"


def contents(folder: Path) -> dict[Path, tuple[bytes, int]]:
    return {
        path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a finished campaign."""
    (tmp_path / "one <b>").mkdir()
    for name in ("manifest.json", "suite.jsonl", "history.jsonl", "summary.json"):
        shutil.copy(EXAMPLE / name, tmp_path / "one <b>" / name)
    return tmp_path


@pytest.fixture
def client(folder: Path) -> TestClient:
    return TestClient(application(Campaigns(folder)), base_url=HERE)


def test_the_list_says_what_came_out_and_leads_to_the_reports(client: TestClient) -> None:
    text = client.get("/").text
    assert '<a href="/campaign/one%20%3Cb%3E/">one &lt;b&gt;</a>' in text
    assert "<b>" not in text
    assert "336 / 336" in text
    assert "external slower: p00 (exploratory), p01, p02, p03, p04, p05" in text
    assert client.get("/campaign/one%20%3Cb%3E/").status_code == 200


def test_a_report_is_the_page_that_the_command_writes_and_nothing_is_written(
    client: TestClient, folder: Path
) -> None:
    before = contents(folder)
    answers = [client.get("/campaign/one%20%3Cb%3E/report.html") for _ in range(2)]
    assert answers[0].text == answers[1].text
    assert answers[0].text.startswith("<!doctype html>")
    assert answers[0].text.count("<figure") > 20
    assert "sandbox" in answers[0].headers["content-security-policy"]
    assert contents(folder) == before


def test_no_report_is_made_beside_a_campaign_that_runs(client: TestClient, folder: Path) -> None:
    running = folder / "two"
    running.mkdir()
    for name in ("manifest.json", "suite.jsonl"):
        shutil.copy(EXAMPLE / name, running / name)
    lines = (EXAMPLE / "history.jsonl").read_bytes().splitlines(keepends=True)
    (running / "history.jsonl").write_bytes(b"".join(lines[:100]))
    answer = client.get("/campaign/one%20%3Cb%3E/report.html")
    assert answer.status_code == 409
    assert "expected no campaign to run here" in answer.text.lower()
    os.utime(running / "history.jsonl", (0, 0))
    told = {one["name"]: one for one in client.get("/progress.json").json()["campaigns"]}
    assert told["two"]["state"] == "stopped"
    assert told["two"]["done"] == sum(b'"pair_complete"' in line for line in lines[:100])


@pytest.mark.parametrize(
    "path", ["/campaign/nothing/", "/campaign/..%2f/", "/campaign/one%20%3Cb%3E/summary.json", "/x"]
)
def test_what_is_not_there_is_not_found(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 404


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8350", "127.0.0.1.evil.example"])
def test_who_asks_by_another_name_gets_nothing(client: TestClient, host: str) -> None:
    assert client.get("/", headers={"host": host}).status_code == 400


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_it_only_reads(client: TestClient, method: str) -> None:
    assert client.request(method, "/").status_code == 405
    assert client.request(method, "/campaign/one%20%3Cb%3E/").status_code == 405

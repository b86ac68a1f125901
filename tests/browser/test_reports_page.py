"""The page of `treni-route reports`, while a real campaign runs beside it and when that has ended."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.browser.conftest import Open, Visit
from tests.limits import HANG_S
from tests.matrices import harness as h

pytestmark = pytest.mark.browser


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder for campaigns, and the address at which the command shows what is in it."""
    folder = tmp_path / "results"
    folder.mkdir()
    command = [sys.executable, "-m", "matrices", "reports", str(folder), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield folder, json.loads(process.stdout.readline())["address"]
        finally:
            process.terminate()
            assert process.wait(timeout=HANG_S) == 0


def test_a_campaign_is_seen_to_run_and_its_report_is_there_at_its_end(
    visit: Open, served: tuple[Path, str]
) -> None:
    folder, address = served
    window = visit()
    window.page.goto(f"{address}/")
    assert "None yet" in window.page.inner_text("main")
    process = h.start("p00,p03", "--runs", "12", "--out", str(folder))
    try:
        campaign = window.page.locator("tbody th a")
        wait(window, process, campaign.count)  # it comes by itself
        window.page.get_by_role("cell", name="running").wait_for()
        assert window.barriers() == []
        window.keep("reports-list")
        name = campaign.inner_text()
        campaign.click()
        seen: list[str] = []
        while "Finished" not in (text := status(window)):
            if text not in seen:
                seen.append(text)
            if len(seen) == 3:
                window.keep("reports-live")
            wait(window, process, lambda: status(window) != seen[-1])
        assert window.barriers() == []
        assert len(seen) > 3, seen
        assert all(re.fullmatch(r"Running: \d+ of 144 pairs\.", one) for one in seen), seen
        assert text.startswith("Finished: 144 of 144 pairs.")
    finally:
        h.finish(process, folder)
    struck = window.page.locator("tr", has=window.page.get_by_role("rowheader", name="p03", exact=True))
    row = struck.filter(has=window.page.get_by_role("cell", name="external", exact=True))
    errors = row.locator("td").nth(5)
    assert errors.inner_text() == "2"  # as the schedule of p03 has it
    assert h.verb("check", folder / name).returncode == 0
    before = contents(folder)
    window.page.get_by_role("link", name="Its report").click()
    window.page.get_by_role("heading", name="Paired differences").first.wait_for()
    assert window.complaints == []
    assert contents(folder) == before
    window.page.set_viewport_size({"width": 400, "height": 800})
    window.page.goto(f"{address}/")
    assert window.overflow_px() <= 0
    assert window.barriers() == []


def wait(window: Visit, process: subprocess.Popen[str], until: Callable[[], object]) -> None:
    """Lets the page go on until something holds, while the campaign has not failed."""
    ends_s = time.monotonic() + HANG_S
    while not until():
        assert process.poll() in (None, 0, 3), process.communicate()
        assert time.monotonic() < ends_s
        window.page.wait_for_timeout(100)


def status(window: Visit) -> str:
    text: str = window.page.get_by_role("status").inner_text()
    return text.strip()


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}

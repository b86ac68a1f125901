"""docs/your-first-campaign.md, followed word for word: its commands are run, its lines are appended, and counted."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.matrices import harness as h
from tests.places import ROOT

pytestmark = [pytest.mark.chaos, pytest.mark.slow]

PAGE = ROOT / "docs" / "your-first-campaign.md"
LINES = 10
"""How many lines a person writes at most."""

_STEP = re.compile(r"(?:Append to `(?P<path>[^`]+)`:\n\n)?```(?P<kind>\w+)\n(?P<text>.*?)```", re.DOTALL)


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """A block of the page: commands to run, or lines to append to the file at `path`."""

    path: str | None
    text: str


def steps() -> Iterator[Step]:
    for found in _STEP.finditer(PAGE.read_text(encoding="utf-8")):
        assert (found["kind"] == "sh") == (found["path"] is None), found["text"]
        yield Step(path=found["path"], text=found["text"])


def _run(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    program, *arguments = shlex.split(line)
    assert program == "treni-route"
    return subprocess.run(
        [sys.executable, "-m", "matrices", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=h.WAIT_S,
        check=False,
    )


@pytest.fixture(scope="module")
def followed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, subprocess.CompletedProcess[str]]:
    """What each command of the page came to, in a folder where nothing was."""
    folder = tmp_path_factory.mktemp("first")
    came_to = {}
    for step in steps():
        if step.path is None:
            for line in step.text.splitlines():
                came_to[line] = _run(line, folder)
        else:
            with (folder / step.path).open("a", encoding="utf-8") as file:
                file.write(step.text)
    came_to["folder"] = subprocess.CompletedProcess([str(folder)], 0)
    return came_to


def test_a_person_writes_few_lines() -> None:
    own = [
        line for step in steps() if step.path is not None for line in step.text.splitlines() if line.strip()
    ]
    assert 0 < len(own) <= LINES


def test_every_command_does_what_the_page_says(
    followed: dict[str, subprocess.CompletedProcess[str]],
) -> None:
    for line, done in followed.items():
        allowed = (0, 3) if line.endswith("campaign.toml") and " matrix " in line else (0,)
        assert done.returncode in allowed, (line, done.stderr)
    asked = next(done for line, done in followed.items() if " ask " in line)
    assert asked.stdout == "The shelf is B7.\n"
    planned = next(done for line, done in followed.items() if "--dry-run" in line)
    assert "flaky" in planned.stdout


def test_the_report_is_on_the_persons_own_tool_and_tasks(
    followed: dict[str, subprocess.CompletedProcess[str]],
) -> None:
    folder = Path(followed["folder"].args[0]) / "my-agent"
    (results,) = (folder / "results").iterdir()
    assert (results / "summary.md").read_text(encoding="utf-8")
    assert h.verb("check", results).returncode == 0
    outcomes = [event for event in h.events(folder / "results") if event["type"] == "outcome"]
    tasks = {
        event["pair"]: event["task_id"] for event in h.events(folder / "results") if event["type"] == "pair"
    }
    mine = [one for one in outcomes if tasks[one["pair"]] in ("price", "cheaper") and one["cell"] == "p00"]
    assert {one["arm"] for one in mine} == {"internal", "external"}
    for one in mine:
        assert one["correct"], one["answer"]
        assert [use["name"] for use in one["record"]["tools"]] == ["get_part_price"]
    struck = [
        one
        for one in outcomes
        if one["cell"] == "flaky" and any(a["fault_id"] for a in one["record"]["attempts"])
    ]
    assert struck


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    assert _run(f"treni-route init {folder}", tmp_path).returncode == 0
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    again = _run(f"treni-route init {folder}", tmp_path)
    assert again.returncode == 2
    assert "nothing is overwritten" in again.stderr
    assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    (tmp_path / "file").write_text("", encoding="utf-8")
    (tmp_path / "empty").mkdir()
    assert _run("treni-route init file", tmp_path).returncode == 2
    assert _run("treni-route init empty", tmp_path).returncode == 0
    assert _run("treni-route init file/below", tmp_path).returncode == 2


def test_each_file_that_can_have_comments_teaches_and_names_its_schema(tmp_path: Path) -> None:
    assert _run("treni-route init mine", tmp_path).returncode == 0
    for path in (tmp_path / "mine").glob("*.toml"):
        first, *rest = path.read_text(encoding="utf-8").splitlines()
        assert (path.parent / first.removeprefix("#:schema ")).is_file()
        assert sum(line.startswith("#") for line in rest) >= 5
    assert '"""' in (tmp_path / "mine" / "tool.py").read_text(encoding="utf-8")

"""A package of a user's own adds a tool, a grader and a scenario, and a campaign runs with them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from matrices.spec.suites import load_suite
from tests.matrices import harness as h

PACKAGE = '''
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from controller.run import Run
from controller.scenarios.scenario import Scenario
from controller.scenarios.tool_loop import ToolLoop
from matrices.graders.grader import Grader, GraderEntry
from tools_svc.protocol import Tool, ToolEntry, ToolOutput, make_spec
from treni.v1 import agent_pb2

SPEC = make_spec(
    name="get_old_region",
    description="Finds the old region of a sensor.",
    properties={"name": {"type": "string", "description": "name of the sensor"}},
    required=("name",),
)
REGIONS = {"Conest": "hotprism", "Taorest": "coldlake", "Thcopy": "farfield", "Crevaith": "highmoor"}


class OldRegions(Tool):
    spec = SPEC

    def run(self, arguments, info):
        return ToolOutput(result={"old_region": REGIONS[arguments["name"]]})


REGION = ToolEntry(spec=SPEC, build=lambda config: OldRegions())


class Ends(Grader):
    """Whether the answer ends as expected, signs aside."""

    signs: str = "."

    def is_correct(self, answer: str, *, expected: str) -> bool:
        return answer.rstrip(self.signs).endswith(expected.rstrip(self.signs))


ENDS = GraderEntry(name="ends", grader=Ends)


class Twice(Scenario):
    """The tool loop, after a first turn whose answer is thrown away."""

    name = "twice"

    def steps(self, tool_calls: int) -> Sequence[str]:
        return ("model", *ToolLoop().steps(tool_calls))

    async def play(self, run: Run) -> AsyncGenerator[agent_pb2.RunEvent, None]:
        run.ask(run.prompt)
        async with aclosing(run.turn()) as parts:
            async for _ in parts:
                pass
        run.conversation.clear()
        async with aclosing(ToolLoop().play(run)) as events:
            async for event in events:
                yield event


TWICE = Twice()
'''

ENTRY_POINTS = """
[treni_route.tools]
get_old_region = mine:REGION

[treni_route.graders]
ends = mine:ENDS

[treni_route.scenarios]
twice = mine:TWICE
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The package, as an installer leaves it, where every process that is started from here finds it."""
    folder = tmp_path / "site"
    information = folder / "mine-1.0.dist-info"
    information.mkdir(parents=True)
    (folder / "mine.py").write_text(PACKAGE, encoding="utf-8")
    (information / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n", encoding="utf-8"
    )
    (information / "entry_points.txt").write_text(ENTRY_POINTS, encoding="utf-8")
    path = os.environ.get("PYTHONPATH", "")
    monkeypatch.setenv("PYTHONPATH", f"{folder}{os.pathsep}{path}" if path else str(folder))
    return folder


REGIONS = {"Conest": "hotprism", "Taorest": "coldlake", "Thcopy": "farfield", "Crevaith": "highmoor"}


def _suite(path: Path, **changes: object) -> Path:
    """Look-ups with the package's tool, each gone about and judged as the package does."""
    tasks = [
        {
            "id": f"look-up-{number}",
            "family": "look_up",
            "run": number // 2,
            "prompt": f"Please answer: what is the old region of sensor {sensor}?",
            "tools": ["get_old_region", "calculator"],
            "expect": {
                "answer": f"{region}!",
                "calls": [{"name": "get_old_region", "arguments": {"name": sensor}}],
            },
            "side_effects": 0,
            "scenario": "twice",
            "grader": {"name": "ends", "signs": ".!"},
        }
        | changes
        for number, (sensor, region) in enumerate(REGIONS.items())
    ]
    path.write_text("\n".join(map(json.dumps, tasks)) + "\n", encoding="utf-8")
    return path


def _dry_run(suite: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "matrices", "matrix", "p00", "--dry-run", "--suite", str(suite)]
    return subprocess.run(command, capture_output=True, text=True, timeout=h.WAIT_S, check=False)


def test_a_campaign_runs_with_what_a_package_adds(tmp_path: Path, package: Path) -> None:
    suite = _suite(tmp_path / "mine.jsonl")
    result = h.matrix(tmp_path / "out", h.patient(tmp_path, "p00"), "--suite", str(suite), "--runs", "2")
    assert result.status in (0, 3), result.stderr
    for arm in ("internal", "external"):
        row = result.summary("p00", arm)
        assert (row["errors"], row["accuracy"], row["tool_calls"], row["model_attempts"]) == (
            "0",
            "1.000000",
            "4",
            "12",
        )
    assert result.comparison("p00")["findings"] == "0"


def test_without_the_package_every_name_is_told_before_anything_runs(tmp_path: Path) -> None:
    done = _dry_run(_suite(tmp_path / "mine.jsonl"))
    assert done.returncode != 0
    assert "no grader 'ends'" in done.stderr
    done = _dry_run(_suite(tmp_path / "mine.jsonl", grader="exact"))
    assert "no scenario 'twice'" in done.stderr
    done = _dry_run(_suite(tmp_path / "mine.jsonl", grader="exact", scenario="tool_loop"))
    assert "'get_old_region'" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("grader=Ends)", "grader=ToolLoop)", "a class derived from Grader"),
        ("TWICE = Twice()", "TWICE = Twice", "a ABCMeta"),
        ('name="get_old_region"', 'name="get_region"', "named 'get_region'"),
        ("SPEC = ", "SPEC = 1 / 0 or ", "ZeroDivisionError"),
    ],
)
def test_a_package_that_is_broken_is_named(
    tmp_path: Path, package: Path, old: str, new: str, said: str
) -> None:
    (package / "mine.py").write_text(PACKAGE.replace(old, new), encoding="utf-8")
    done = _dry_run(_suite(tmp_path / "mine.jsonl"))
    assert done.returncode != 0
    assert said in done.stderr
    assert "mine" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_bundled_suites_need_no_package(package: Path) -> None:
    (package / "mine.py").write_text("1 / 0", encoding="utf-8")
    for task in load_suite("core").tasks:
        assert task.is_correct(task.expect.answer)

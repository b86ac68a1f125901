"""A campaign whose suite nobody knows the model to pass: answers are graded, and a wrong one is a figure."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from matrices.spec.suites import Task, load_suite
from tests.matrices import harness as h
from tests.matrices.checks.tampering.folder import Data, Folder, findings


def _asked(task: Task, answer: str, grader: object) -> Task:
    """The task with another expected answer."""
    data = task.model_dump(mode="json")
    return Task.model_validate({**data, "expect": {**data["expect"], "answer": answer}, "grader": grader})


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> h.Result:
    """Four tasks, the last of which the bundled model answers otherwise than its author would have it."""
    folder = tmp_path_factory.mktemp("examined")
    calculated, smaller, counted, more = load_suite("core").tasks[:4]
    tasks = [
        _asked(calculated, "#### 1.6", "numeric"),
        _asked(smaller, "B", {"name": "choice", "choices": ["7982 is smaller", "8 is smaller"]}),
        _asked(counted, "6.4", {"name": "numeric", "tolerance": 0.5}),
        _asked(more, "something else", "exact"),
    ]
    suite = h.write_suite(folder / "mine.jsonl", tasks, per_run=2)
    return h.matrix(folder / "out", h.patient(folder, "p00"), "--suite", str(suite), "--runs", "2")


def test_a_wrong_answer_is_a_figure_of_its_arm_and_no_finding(campaign: h.Result) -> None:
    assert campaign.status in (0, 3), campaign.stderr
    assert findings(campaign.folder) == set()
    for arm in ("internal", "external"):
        row = campaign.summary("p00", arm)
        assert (row["requests"], row["errors"], row["wrong_answers"], row["accuracy"]) == (
            "4",
            "0",
            "1",
            "0.750000",
        )
    report = (campaign.folder / "summary.md").read_text(encoding="utf-8")
    assert "Right answers, of those given: 3 of 4 internal (75.0 %), 3 of 4 external (75.0 %)." in report


def _one(c: Folder) -> Data:
    return c.outcome(cell="p00", pair=1, arm="external")


def _said_to_be_right(c: Folder) -> None:
    c.outcome(cell="p00", pair=3, arm="external")["correct"] = True


def _said_to_be_wrong(c: Folder) -> None:
    _one(c)["correct"] = False


def _other_words(c: Folder) -> None:
    _one(c)["answer"] = "B"


def _made_right_in_one_arm(c: Folder) -> None:
    c.outcome(cell="p00", pair=3, arm="external").update(answer="something else", correct=True)


def _made_wrong_in_one_arm(c: Folder) -> None:
    _one(c).update(answer="7982 is smaller", correct=False)


def _judged_by_another(c: Folder) -> None:
    del c.suite[1]["grader"]


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (_said_to_be_right, "grade_wrong"),
        (_said_to_be_wrong, "grade_wrong"),
        (_other_words, "answer_differs"),
        (_made_right_in_one_arm, "answer_differs"),
        (_made_wrong_in_one_arm, "answer_differs"),
        (_judged_by_another, "grade_wrong"),
    ],
)
def test_what_was_changed_is_still_found(
    campaign: h.Result, tmp_path: Path, change: Callable[[Folder], Any], kind: str
) -> None:
    folder = Folder.read(campaign.folder)
    change(folder)
    folder.write(tmp_path)
    assert kind in findings(tmp_path)

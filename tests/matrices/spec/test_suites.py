"""Suites: what a task's line may say, and that a suite is written back as it was read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from matrices.graders.numeric import Numeric
from matrices.spec.suites import Task, bundled_suites, load_suite
from treni.errors import TreniError

TASK: dict[str, Any] = {
    "id": "one",
    "family": "direct",
    "run": 0,
    "prompt": "What is 2 plus 2?",
    "tools": ["calculator"],
    "expect": {"answer": "4", "calls": []},
    "side_effects": 0,
}


def _suite(folder: Path, *changes: dict[str, Any]) -> Path:
    path = folder / "mine.jsonl"
    lines = [json.dumps({**TASK, "id": f"t{i}", **change}) for i, change in enumerate(changes)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("name", bundled_suites())
def test_a_bundled_suite_is_written_without_what_goes_without_saying(name: str) -> None:
    for task in load_suite(name).tasks:
        several = {"follow_ups"} if task.follow_ups else set()
        assert set(json.loads(task.model_dump_json())) == set(TASK) | several
        assert task.is_correct(task.expect.answer)


@pytest.mark.parametrize(
    ("grader", "valid"),
    [
        ("numeric", True),
        ({"name": "numeric", "tolerance": 0.5}, True),
        ({"name": "numeric", "tolerence": 0.5}, False),
        ({"name": "json", "match": "schema", "schema": {"type": "object"}}, True),
        ({"name": "choice", "choices": ["a", "b"]}, True),
        ({"name": "choice"}, False),
        ({"name": "a-package's", "whatever": 1}, True),
        ({"tolerance": 0.5}, False),
        (5, False),
    ],
)
def test_the_schema_of_a_task_says_what_a_grader_may_be(grader: object, valid: bool) -> None:
    validator = jsonschema.Draft202012Validator(Task.model_json_schema())
    assert validator.is_valid({**TASK, "grader": grader}) is valid
    assert validator.is_valid(TASK)


def test_a_task_chooses_what_the_agent_does_with_it(tmp_path: Path) -> None:
    plain, single = load_suite(str(_suite(tmp_path, {}, {"scenario": "single_turn"}))).tasks
    assert (plain.steps, single.steps) == ((("model",),), (("model",),))
    assert "scenario" not in json.loads(plain.model_dump_json())
    assert Task.model_validate_json(single.model_dump_json()) == single


def test_a_task_chooses_how_its_answer_is_judged(tmp_path: Path) -> None:
    plain, near, loose = load_suite(
        str(_suite(tmp_path, {}, {"grader": "numeric"}, {"grader": {"name": "numeric", "tolerance": 0.5}}))
    ).tasks
    assert [task.is_correct("The answer is 4.") for task in (plain, near, loose)] == [False, True, True]
    assert [task.is_correct("4.5") for task in (plain, near, loose)] == [False, False, True]
    for task in (plain, near, loose):
        assert Task.model_validate_json(task.model_dump_json()) == task
    assert loose.grader == Numeric(tolerance=0.5)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"grader": "numerc"}, 'did you mean "numeric"?'),
        ({"grader": "fuzzy"}, "there are exact, numeric, choice, json"),
        ({"grader": 5}, "the name of a grader"),
        ({"grader": {"name": "numeric", "tolerance": -1}}, "tolerance"),
        ({"grader": {"name": "numeric", "tolerence": 1}}, "tolerence"),
        ({"grader": {"name": "choice", "choices": ["a", "b"]}}, "one of the letters A, B"),
        ({"grader": {"name": "json", "match": "schema"}}, "schema"),
        ({"grader": "numeric", "expect": {"answer": "four"}}, "a number"),
        ({"scenario": "singel_turn"}, 'did you mean "single_turn"?'),
        (
            {"scenario": "single_turn", "expect": {"answer": "4", "calls": [{"name": "x", "arguments": {}}]}},
            "a task without tool calls",
        ),
    ],
)
def test_a_grader_that_cannot_judge_is_refused_by_line(
    tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    with pytest.raises(TreniError, match=r"mine\.jsonl line 2") as refused:
        load_suite(str(_suite(tmp_path, {}, change)))
    assert said in str(refused.value)

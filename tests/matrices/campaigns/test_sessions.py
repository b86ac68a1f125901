"""A campaign of sessions under faults: each answer is judged, and what is changed in a middle turn is found."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path

import pytest

from matrices.evidence.campaign import load_campaign
from matrices.planning.plan import plan_cell
from matrices.report.figures import figures
from matrices.spec.profiles import load_profile
from matrices.spec.suites import load_suite
from tests.matrices import harness as h
from tests.matrices.checks.tampering.folder import Change, Data, Folder, findings

pytestmark = [pytest.mark.chaos, pytest.mark.slow]

PROFILE = """
name = "drawn"
title = "Three of ten calls of a tool are refused for good, drawn by request"

[policy]
retries = 0
tool_timeout = "10s"

[faults]
site = "tool"
by = "request"
seed = 5

[[faults.rules]]
kind = "status"
rate = 0.3
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A campaign of eight sessions in both arms."""
    scratch = tmp_path_factory.mktemp("sessions")
    profile = scratch / "drawn.toml"
    profile.write_text(PROFILE, encoding="utf-8")
    result = h.matrix(scratch / "out", str(profile), "--suite", "sessions", "--runs", "2")
    assert result.status in (0, 3), result.stderr
    return result.folder


@pytest.fixture(scope="module")
def honest(folder: Path) -> Folder:
    return Folder.read(folder)


def test_the_schedule_predicts_what_sessions_come_to(folder: Path, honest: Folder) -> None:
    assert findings(folder) == set()
    profile = folder.parents[1] / "drawn.toml"
    prediction = plan_cell(load_profile(profile), load_suite("sessions"), runs=2).prediction("external")
    assert prediction is not None
    for arm in ("internal", "external"):
        failed = honest.outcomes(lambda one: one["outcome"] != "ok", cell="drawn", arm=arm)
        assert len(failed) == prediction.errors
        later = [one for one in failed if one["earlier"]]
        assert 0 < len(later) < len(failed)  # some fail in a later turn, some in the first


def test_both_arms_find_the_conversation_in_the_cache_again(folder: Path) -> None:
    campaign, manifest, history = load_campaign(folder)
    for cell in figures(manifest, history.events, campaign.expectations).cells:
        assert not cell.void
        for arm in cell.arms:
            first, *later = (turn.cached_prompt_tokens / turn.prompt_tokens for turn in arm.user_turns)
            assert all(share > max(first, 0.8) for share in later)


def _session(c: Folder, turns: int = 3) -> Data:
    """An answered run with that many user turns."""
    return c.outcome(lambda one: one["outcome"] == "ok" and len(one["earlier"]) == turns - 1, cell="aa")


def _an_answer(c: Folder) -> None:
    _session(c)["earlier"][1]["answer"] = "The result is 7."


def _an_answer_and_its_grade(c: Folder) -> None:
    outcome = _session(c)
    outcome["earlier"][1].update(answer="The result is 7.", correct=False)
    outcome["correct"] = False


def _a_grade(c: Folder) -> None:
    _session(c)["earlier"][0]["correct"] = False


def _the_grade_of_the_whole(c: Folder) -> None:
    _session(c)["correct"] = False


def _answers_change_places(c: Folder) -> None:
    first, second = _session(c)["earlier"]
    first["answer"], second["answer"] = second["answer"], first["answer"]


def _an_answer_is_dropped(c: Folder) -> None:
    _session(c)["earlier"].pop()


def _an_answer_is_made_up(c: Folder) -> None:
    earlier = _session(c)["earlier"]
    earlier.append(dict(earlier[-1], latency_s=earlier[-1]["latency_s"] * 1.0001))


def _an_answer_of_a_failed_run(c: Folder) -> None:
    failed = c.outcome(lambda one: one["outcome"] != "ok" and one["earlier"], cell="drawn")
    failed["earlier"] = []


def _another_answer_is_expected(c: Folder) -> None:
    task = next(task for task in c.suite if len(task["follow_ups"]) == 2)
    task["follow_ups"][0]["expect"]["answer"] = "The result is 7."


def _another_call_is_expected(c: Folder) -> None:
    task = next(task for task in c.suite if task["family"] == "multiplied")
    task["follow_ups"][-1]["expect"]["calls"][0]["arguments"]["amount"] += 1


def _a_turn_is_taken_out(c: Folder) -> None:
    next(task for task in c.suite if len(task["follow_ups"]) == 2)["follow_ups"].pop(0)


def _an_answer_came_sooner(c: Folder) -> None:
    _session(c)["earlier"][1]["latency_s"] /= 3


def _an_answer_came_later(c: Folder) -> None:
    outcome = _session(c)
    outcome["earlier"][1]["latency_s"] = outcome["latency_s"] * 1.01


def _answered_by_the_record_before_it_was_asked(c: Folder) -> None:
    _session(c)["record"]["user_turns"][1]["answered_s"] /= 3


def _tokens_of_two_turns_change_places(c: Folder) -> None:
    first, second, _ = _session(c)["record"]["user_turns"]
    first["usage"], second["usage"] = second["usage"], first["usage"]


def _fewer_tokens_were_known(outcome: Data) -> None:
    turns = outcome["record"]["user_turns"]
    turns[1]["usage"]["cached_prompt_tokens"] -= 5
    turns[2]["usage"]["cached_prompt_tokens"] += 5


def _fewer_tokens_were_known_in_one_turn(c: Folder) -> None:
    _fewer_tokens_were_known(_session(c))


def _fewer_tokens_were_known_in_both_arms(c: Folder) -> None:
    for outcome in c.outcomes(cell="aa", pair=_session(c)["pair"]):
        _fewer_tokens_were_known(outcome)


def _a_call_of_the_model_moves_to_another_turn(c: Folder) -> None:
    turns = _session(c)["record"]["user_turns"]
    turns[0]["turns"] += 1
    turns[1]["turns"] -= 1


def _user_turns_are_dropped(c: Folder) -> None:
    _session(c)["record"]["user_turns"] = []


def _a_key_of_a_later_turn(c: Folder) -> None:
    attempts = [one for one in _session(c)["record"]["attempts"] if one["hop"] == "tool"]
    attempts[-1]["idempotency_key"] = attempts[0]["idempotency_key"]


TAMPERINGS: dict[str, tuple[Change, set[str]]] = {
    "an answer": (_an_answer, {"answer_wrong"}),
    "an answer and its grade": (_an_answer_and_its_grade, {"answer_wrong"}),
    "a grade": (_a_grade, {"grade_wrong"}),
    "the grade of the whole": (_the_grade_of_the_whole, {"grade_wrong"}),
    "answers change places": (_answers_change_places, {"answer_wrong"}),
    "an answer is dropped": (_an_answer_is_dropped, {"outcome_inconsistent"}),
    "an answer is made up": (_an_answer_is_made_up, {"outcome_inconsistent"}),
    "an answer of a failed run": (_an_answer_of_a_failed_run, {"outcome_inconsistent"}),
    "another answer is expected": (_another_answer_is_expected, {"answer_wrong"}),
    "another call is expected": (_another_call_is_expected, {"calls_wrong"}),
    "a turn is taken out": (_a_turn_is_taken_out, {"outcome_inconsistent", "manifest_inconsistent"}),
    "an answer came sooner": (_an_answer_came_sooner, {"latency_impossible"}),
    "an answer came later": (_an_answer_came_later, {"latency_impossible"}),
    "answered before it was asked": (_answered_by_the_record_before_it_was_asked, {"user_turns_wrong"}),
    "tokens of two turns": (_tokens_of_two_turns_change_places, {"pair_void"}),
    "fewer tokens known": (_fewer_tokens_were_known_in_one_turn, {"pair_void"}),
    "fewer tokens known in both arms": (_fewer_tokens_were_known_in_both_arms, {"tokens_differ"}),
    "a call of the model": (_a_call_of_the_model_moves_to_another_turn, {"user_turns_wrong"}),
    "user turns are dropped": (_user_turns_are_dropped, {"user_turns_wrong"}),
    "a key of a later turn": (_a_key_of_a_later_turn, {"attempt_wrong"}),
}


@pytest.mark.parametrize("name", TAMPERINGS)
def test_what_is_changed_in_a_turn_is_found(name: str, honest: Folder, folder: Path, tmp_path: Path) -> None:
    change, kinds = TAMPERINGS[name]
    changed = copy.deepcopy(honest)
    change(changed)
    assert changed != honest
    shutil.copytree(folder, tmp_path / "changed", ignore=shutil.ignore_patterns("cells"))
    changed.write(tmp_path / "changed")
    found = findings(tmp_path / "changed")
    assert found & kinds, f"expected one of {sorted(kinds)}, got {sorted(found) or 'nothing'}"


def test_an_answer_of_another_models_is_found_where_nobody_knows_what_is_right(
    honest: Folder, folder: Path, tmp_path: Path
) -> None:
    """Where a wrong answer is no finding, a middle answer that was changed in one run differs from the others'."""
    changed = copy.deepcopy(honest)
    changed.manifest["details"]["model_dir"] = "/models/another"
    _an_answer_and_its_grade(changed)
    shutil.copytree(folder, tmp_path / "changed", ignore=shutil.ignore_patterns("cells"))
    changed.write(tmp_path / "changed")
    assert "answer_differs" in findings(tmp_path / "changed")

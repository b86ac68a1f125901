"""The evaluation of the semantic route, on cases whose figures are known."""

import math
from pathlib import Path

import numpy as np
import pytest

import matrices
from runtime_svc.route import NO_TOOL
from runtime_svc.training.evaluate_route import (
    Case,
    Judged,
    calibration_error,
    dialogues,
    judge,
    log_loss,
    suite,
)

SUITES = Path(matrices.__file__).parent / "suites"


def judged(stated: float, right: bool, of_right: float | None = None) -> Judged:
    return Judged(
        family="f",
        stated=stated,
        of_right=stated if of_right is None else of_right,
        right=right,
        no_tool=False,
    )


def test_calibration_error() -> None:
    assert calibration_error([judged(0.75, True)] * 3 + [judged(0.75, False)]) == pytest.approx(0)
    assert calibration_error([judged(1.0, False)]) == pytest.approx(1)
    two_bins = [judged(0.95, True), judged(0.55, False)]
    assert calibration_error(two_bins) == pytest.approx((0.05 + 0.55) / 2)


def test_log_loss() -> None:
    assert log_loss([judged(0.5, True), judged(0.9, False, of_right=0.25)]) == pytest.approx(
        1.5 * math.log(2)
    )


def test_cases_of_dialogues_name_the_first_call_or_none() -> None:
    cases = dialogues(3, 60, "values")
    assert {case.right == NO_TOOL for case in cases} == {True, False}
    assert all(case.right in (*case.names, NO_TOOL) for case in cases)
    assert cases == dialogues(3, 60, "values")


@pytest.mark.parametrize("path", sorted(SUITES.glob("*.jsonl")), ids=lambda path: path.stem)
def test_cases_of_suites(path: Path) -> None:
    cases = suite(path)
    assert len(cases) >= 24
    assert all(len(case.names) == 4 and case.right in (*case.names, NO_TOOL) for case in cases)


def test_judge() -> None:
    case = Case(family="f", request="r", names=("a", "b"), tools=("ta", "tb"), right="b")
    alone = Case(family="g", request="r", names=(), tools=(), right=NO_TOOL)
    vectors = {"r": np.array([1, 0]), "ta": np.array([0, 1]), "tb": np.array([0.8, 0.6])}
    first, second = judge([case, alone], vectors, 2)
    assert (first.right, first.no_tool, second.right, second.no_tool) == (True, False, True, True)
    assert first.stated == first.of_right > 0.99
    assert second.stated == 1

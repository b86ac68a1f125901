"""One-sided tests against a limit that was set beforehand."""

from __future__ import annotations

import math

from scipy.special import stdtr, stdtrit

from matrices.statistics.estimates import Estimate


def beyond_p(room: float, *, error: float, dof: float, spent: float) -> float:
    """The p of the hypothesis that a true value is not beyond a limit of which the estimate is `room` beyond."""
    if error == 0:
        return 0.0 if room > 0 else 1.0
    return min(1.0, float(stdtr(dof, -room / error)) / spent)


def difference_over_p(difference: Estimate, limit_s: float) -> tuple[float, float]:
    """The p of a claim that the difference is over the limit, and of one that it is under."""
    room = difference.value - limit_s
    terms = {"error": difference.error, "dof": difference.dof, "spent": difference.spent}
    return beyond_p(room, **terms), beyond_p(-room, **terms)


def ratio_over_p(ratio: Estimate, baseline_s: float, limit: float) -> tuple[float, float]:
    """The p of a claim that a ratio of means is over the limit, and of one that it is under.

    `ratio` is as `latency_ratio` gives it, of a baseline with that mean; the tests are those of which its interval
    (Fieller's, either arm with half of the difference's variance) is made.
    """
    room = (ratio.value - limit) * baseline_s
    terms = {
        "error": ratio.error * math.sqrt((1 + limit**2) / 2),
        "dof": ratio.dof,
        "spent": ratio.spent,
    }
    return beyond_p(room, **terms), beyond_p(-room, **terms)


def ratio_interval(ratio: Estimate, baseline_s: float, confidence: float) -> tuple[float, float]:
    """Fieller's interval of a ratio of means at another confidence: the limits at which `ratio_over_p` decides.

    Unbounded, as `latency_ratio` has it, where the baseline's mean is not distinguishable from zero.
    """
    quantile = float(stdtrit(ratio.dof, 1 - (1 - confidence) / 2 * ratio.spent))
    arm = (quantile * ratio.error) ** 2 / 2
    square = baseline_s**2 - arm
    if square <= 0:
        return -math.inf, math.inf
    root = math.sqrt((arm * ratio.value) ** 2 + square * arm * (1 + ratio.value**2))
    linear = arm * ratio.value
    return ratio.value + (linear - root) / square, ratio.value + (linear + root) / square

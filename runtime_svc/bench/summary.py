"""A few repeats as three numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Spread:
    """Median, 10th and 90th percentile of `count` repeats."""

    median: float
    p10: float
    p90: float
    count: int


def quantile(values: Sequence[float], share: float) -> float:
    """The quantile by linear interpolation between order statistics (type 7 of Hyndman and Fan 1996).

    Raises ValueError for no values or a share outside 0..1.
    """
    if not values or not 0 <= share <= 1:
        raise ValueError(f"expected values and a share in 0..1; got {len(values)} values and {share}")
    ordered = sorted(values)
    at = share * (len(ordered) - 1)
    low = math.floor(at)
    high = min(low + 1, len(ordered) - 1)
    # Written so that equal neighbours give their very value, and the result never leaves them.
    return ordered[low] + (at - low) * (ordered[high] - ordered[low])


def spread(values: Sequence[float]) -> Spread:
    """The spread of at least one value."""
    return Spread(
        median=quantile(values, 0.5),
        p10=quantile(values, 0.1),
        p90=quantile(values, 0.9),
        count=len(values),
    )

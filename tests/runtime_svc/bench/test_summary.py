import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime_svc.bench.summary import quantile, spread

VALUES = st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=50)
SHARES = st.floats(0, 1)


@given(VALUES)
def test_the_median_is_the_median(values: list[float]) -> None:
    assert spread(values).median == pytest.approx(statistics.median(values))


@given(VALUES, SHARES, SHARES)
def test_quantiles_stay_within_and_in_order(values: list[float], a: float, b: float) -> None:
    low, high = (
        sorted((quantile(values, a), quantile(values, b)))
        if a > b
        else (quantile(values, a), quantile(values, b))
    )
    assert min(values) <= low <= max(values)
    assert low <= high or low == pytest.approx(high)


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=20))
def test_tenths_agree_with_the_standard_library(values: list[float]) -> None:
    tenths = statistics.quantiles(values, n=10, method="inclusive")
    found = spread(values)
    # Both round where they cut between neighbours, which may lie 2e6 apart.
    assert (found.p10, found.p90) == pytest.approx((tenths[0], tenths[-1]), abs=1e-7)


@given(st.floats(-1e9, 1e9), st.integers(1, 9), SHARES)
def test_equal_values_are_their_own_quantile(value: float, count: int, share: float) -> None:
    assert quantile([value] * count, share) == value


def test_nothing_has_no_quantile() -> None:
    for values, share in (([], 0.5), ([1.0], 1.5)):
        with pytest.raises(ValueError, match="expected values"):
            quantile(values, share)

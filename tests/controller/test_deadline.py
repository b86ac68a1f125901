from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from controller.deadline import Deadline
from tests.controller.doubles import VirtualClock


@given(
    total_s=st.floats(0, 100), timeouts_s=st.lists(st.floats(0, 100), max_size=5), passes_s=st.floats(0, 200)
)
def test_a_deadline_only_shrinks(total_s: float, timeouts_s: list[float], passes_s: float) -> None:
    time = VirtualClock()
    deadline = Deadline.after(total_s, clock=time.clock)
    for timeout_s in timeouts_s:
        narrower = deadline.within(timeout_s)
        assert narrower.remaining_s() <= min(deadline.remaining_s(), timeout_s) + 1e-9
        deadline = narrower
    time.now_s += passes_s
    assert deadline.remaining_s() >= 0
    assert deadline.expired == (deadline.remaining_s() == 0)

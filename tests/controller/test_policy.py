from __future__ import annotations

import math
from dataclasses import replace

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.policy import DISPOSITION, Disposition, Policy, disposition_of
from treni.errors import DEFINITE, TreniError
from treni.fence import stale


def test_every_status_code_has_a_disposition() -> None:
    assert set(DISPOSITION) == set(grpc.StatusCode)


def test_what_is_tried_again_and_what_the_model_may_correct() -> None:
    by_disposition = {
        disposition: {code.name for code, found in DISPOSITION.items() if found is disposition}
        for disposition in (Disposition.RETRY, Disposition.REFUSED)
    }
    assert by_disposition == {
        Disposition.RETRY: {
            *("ABORTED", "DEADLINE_EXCEEDED", "INTERNAL", "RESOURCE_EXHAUSTED", "UNAVAILABLE"),
        },
        Disposition.REFUSED: {"FAILED_PRECONDITION", "INVALID_ARGUMENT", "NOT_FOUND", "OUT_OF_RANGE"},
    }


def test_what_a_model_may_correct_certainly_did_not_happen() -> None:
    refused = {code for code, disposition in DISPOSITION.items() if disposition is Disposition.REFUSED}
    assert refused
    assert all(DEFINITE[code] for code in refused)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("run_timeout_s", 0.0),
        ("model_timeout_s", -1.0),
        ("tool_timeout_s", math.inf),
        ("tool_timeout_s", math.nan),
        ("retries", -1),
        ("retries", 0.5),
        ("backoff_initial_s", -0.1),
        ("backoff_max_s", math.nan),
        ("backoff_multiplier", 0.9),
        ("backoff_jitter", 1.0),
        ("seed", 2**64),
        ("max_turns", 0),
        ("max_tool_calls", -1),
        ("max_malformed", -1),
        ("retries", True),
        ("retries", 10**7),
        ("seed", False),
        ("seed", 0.0),
        ("max_turns", True),
        ("max_turns", 10**400),
        ("tool_timeout_s", True),
        ("tool_timeout_s", "1"),
        ("tool_timeout_s", None),
        ("run_timeout_s", 1e10),
        ("model_timeout_s", 10**400),
        ("backoff_max_s", 1e308),
        ("backoff_initial_s", "0"),
        ("backoff_multiplier", math.inf),
        ("backoff_multiplier", math.nan),
        ("backoff_multiplier", 10**400),
        ("backoff_multiplier", True),
        ("backoff_jitter", math.nan),
    ],
)
def test_impossible_values_are_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(TreniError, match=f"expected {field} to be .*; got {value!r}".replace("+", r"\+")):
        Policy(**{field: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("initial_s", "multiplier", "attempt", "wait_s"),
    [(0.1, 1e300, 4, 2.0), (0.1, 10.0, 10**6, 2.0), (0.0, 1e300, 4, 0.0), (0.1, 1.0, 10**6, 0.1)],
)
def test_a_backoff_beyond_every_number_is_the_cap(
    initial_s: float, multiplier: float, attempt: int, wait_s: float
) -> None:
    policy = Policy(
        backoff_initial_s=initial_s, backoff_multiplier=multiplier, backoff_max_s=2.0, backoff_jitter=0.0
    )
    assert policy.backoff_s(hop="tool", request_index=0, call_index=0, attempt=attempt) == wait_s


counters = st.integers(0, 2**32 - 1)


@given(
    seed=st.integers(0, 2**64 - 1),
    request_index=counters,
    call_index=counters,
    attempt=st.integers(1, 40),
    jitter=st.floats(0, 0.99),
)
def test_backoff_is_bounded_and_reproducible(
    seed: int, request_index: int, call_index: int, attempt: int, jitter: float
) -> None:
    policy = Policy(
        seed=seed, backoff_initial_s=0.1, backoff_multiplier=3.0, backoff_max_s=1.5, backoff_jitter=jitter
    )
    wait_s, again_s = (
        policy.backoff_s(hop="tool", request_index=request_index, call_index=call_index, attempt=attempt)
        for _ in range(2)
    )
    base_s = min(1.5, 0.1 * 3.0 ** (attempt - 1))
    assert wait_s == again_s
    assert base_s * (1 - jitter) - 1e-12 <= wait_s <= base_s * (1 + jitter) + 1e-12


def test_backoff_differs_by_each_counter_and_spreads_over_its_range() -> None:
    policy = Policy(backoff_initial_s=1.0, backoff_multiplier=1.0, backoff_jitter=0.5)
    waits = [
        policy.backoff_s(hop=hop, request_index=request, call_index=call, attempt=attempt)
        for hop in ("model", "tool")
        for request in range(10)
        for call in range(5)
        for attempt in range(1, 6)
    ]
    assert len(set(waits)) == len(waits)
    other = replace(policy, seed=1).backoff_s(hop="tool", request_index=0, call_index=0, attempt=1)
    assert other not in waits
    assert min(waits) < 0.55
    assert max(waits) > 1.45
    assert abs(sum(waits) / len(waits) - 1.0) < 0.05


@pytest.mark.parametrize("effects", [True, False])
def test_a_server_that_was_superseded_is_no_refusal_of_the_request(effects: bool) -> None:
    assert disposition_of(stale("this session", "another"), effects=effects) is Disposition.RETRY

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.attempts import HopFailed, Hops
from controller.deadline import Deadline
from controller.policy import DISPOSITION, Disposition, Policy
from controller.ports import Annotate, AttemptKey
from controller.recorder import Recorder
from matrices.evidence.traces import read_traces
from tests.controller.doubles import VirtualClock, failure
from treni import metadata
from treni.errors import Code, TreniError
from treni.trace_options import traced
from treni.v1 import agent_pb2


def hops_at(
    time: VirtualClock, policy: Policy, *, run_timeout_s: float = 1e6, annotate: Annotate | None = None
) -> Hops:
    return Hops(
        run_id="r1",
        request_index=7,
        policy=policy,
        deadline=Deadline.after(run_timeout_s, clock=time.clock),
        recorder=Recorder(arm="external", clock=time.clock),
        annotate=annotate,
    )


async def make_call(
    hops: Hops, time: VirtualClock, outcomes: Sequence[tuple[Code, float]], *, hop: str = "tool"
) -> TreniError | None:
    """One call whose attempt n takes `outcomes[n][1]` seconds, or as long as it may, and ends with that code."""
    try:
        async for attempt in hops.attempts(hop=hop, call_index=0, name="calculator", idempotency_key="r1/0"):
            with attempt as call:
                code, takes_s = outcomes[call.key.attempt]
                allowed_s = call.deadline.remaining_s()
                time.now_s += min(takes_s, allowed_s)
                if takes_s > allowed_s:
                    raise failure(Code.DEADLINE_EXCEEDED)
                if code is not Code.OK:
                    raise failure(code)
    except TreniError as error:
        return error
    return None


async def fail_always(hops: Hops, error: Exception, *, forwarded: bool = False) -> None:
    async for attempt in hops.attempts(hop="tool", call_index=0):
        with attempt:
            attempt.forwarded = forwarded
            raise error


def predicted(codes: Sequence[Code], retries: int) -> list[Code]:
    """The reference: the codes of the attempts that are made."""
    made: list[Code] = []
    for code in codes[: retries + 1]:
        made.append(code)
        if code is Code.OK or DISPOSITION[code] is not Disposition.RETRY:
            break
    return made


def attempts_of(hops: Hops) -> list[agent_pb2.Attempt]:
    return list(hops.recorder.record().attempts)


@given(codes=st.lists(st.sampled_from(list(Code)), min_size=5, max_size=5), retries=st.integers(0, 4))
async def test_attempts_are_those_that_the_pure_rule_predicts(codes: list[Code], retries: int) -> None:
    time = VirtualClock()
    policy = Policy(retries=retries)
    hops = hops_at(time, policy)
    error = await make_call(hops, time, [(code, 0.01) for code in codes])

    expected = predicted(codes, retries)
    attempts = attempts_of(hops)
    assert [attempt.code for attempt in attempts] == [code.name for code in expected]
    assert [attempt.attempt for attempt in attempts] == list(range(len(expected)))
    last = expected[-1]
    if last is Code.OK:
        assert error is None
    elif DISPOSITION[last] is Disposition.REFUSED:
        assert not isinstance(error, HopFailed)
        assert error is not None
        assert error.code is last
    else:
        assert isinstance(error, HopFailed)
        assert (error.code, error.kind, error.hop) == (last, "tool_hop_failed", "tool")
        assert error.definite == all(attempt.outcome == "fail" for attempt in attempts)
    assert time.sleeps == [
        policy.backoff_s(hop="tool", request_index=7, call_index=0, attempt=number)
        for number in range(1, len(expected))
    ]
    assert hops.recorder.record().backoff_s == pytest.approx(sum(time.sleeps))


@given(
    outcomes=st.lists(
        st.tuples(st.sampled_from([Code.OK, Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED]), st.floats(0, 1)),
        min_size=6,
        max_size=6,
    ),
    run_timeout_s=st.floats(0.001, 2),
    tool_timeout_s=st.floats(0.001, 0.5),
)
async def test_no_attempt_and_no_backoff_passes_the_deadline(
    outcomes: list[tuple[Code, float]], run_timeout_s: float, tool_timeout_s: float
) -> None:
    time = VirtualClock()
    began_s = time.now_s
    hops = hops_at(time, Policy(retries=5, tool_timeout_s=tool_timeout_s), run_timeout_s=run_timeout_s)
    error = await make_call(hops, time, outcomes)
    assert time.now_s <= began_s + run_timeout_s + 1e-9
    for attempt in attempts_of(hops):
        assert attempt.duration_s <= tool_timeout_s + 1e-9
    if error is not None and len(attempts_of(hops)) < 6:
        assert error.kind == "deadline_exceeded"
        assert error.code is Code.DEADLINE_EXCEEDED


async def test_an_attempt_that_ran_out_of_time_may_have_happened() -> None:
    time = VirtualClock()
    hops = hops_at(time, Policy(retries=1, tool_timeout_s=0.25))
    error = await make_call(hops, time, [(Code.OK, 9.0), (Code.UNAVAILABLE, 0.0)])
    first, second = attempts_of(hops)
    assert (first.outcome, first.code, first.duration_s) == ("unknown", "DEADLINE_EXCEEDED", 0.25)
    assert second.start_s == pytest.approx(0.25 + time.sleeps[0])
    assert error is not None
    assert not error.definite


@pytest.mark.parametrize(("definite", "outcome"), [(True, "fail"), (False, "unknown")])
async def test_the_server_s_word_decides_what_is_definite(definite: bool, outcome: str) -> None:
    time = VirtualClock()
    hops = hops_at(time, Policy(retries=2))
    with pytest.raises(HopFailed) as caught:
        await fail_always(hops, failure(Code.UNAVAILABLE, definite=definite))
    assert caught.value.definite is definite
    assert [attempt.outcome for attempt in attempts_of(hops)] == [outcome] * 3


async def test_a_refusal_on_the_model_hop_ends_the_call() -> None:
    time = VirtualClock()
    error = await make_call(hops_at(time, Policy()), time, [(Code.INVALID_ARGUMENT, 0.0)], hop="model")
    assert isinstance(error, HopFailed)
    assert (error.kind, error.code) == ("model_hop_failed", Code.INVALID_ARGUMENT)


async def test_what_was_passed_on_is_not_asked_for_again() -> None:
    time = VirtualClock()
    hops = hops_at(time, Policy(retries=3))
    with pytest.raises(HopFailed):
        await fail_always(hops, failure(Code.UNAVAILABLE), forwarded=True)
    assert len(attempts_of(hops)) == 1


async def test_annotations_reach_the_call_and_their_fault_the_record() -> None:
    asked: list[AttemptKey] = []

    def annotate(key: AttemptKey) -> dict[str, str]:
        asked.append(key)
        return (
            {metadata.FAULT: json.dumps({"id": f"f{key.attempt}", "kind": "status"})}
            if key.attempt < 2
            else {}
        )

    time = VirtualClock()
    hops = hops_at(time, Policy(retries=2), annotate=annotate)
    seen: list[dict[str, str]] = []
    async for attempt in hops.attempts(hop="tool", call_index=4):
        with attempt as call:
            seen.append(dict(call.metadata))
            if call.key.attempt < 2:
                raise failure(Code.UNAVAILABLE)
    assert [key.attempt for key in asked] == [0, 1, 2]
    assert all(
        (key.hop, key.run_id, key.request_index, key.call_index) == ("tool", "r1", 7, 4) for key in asked
    )
    assert [metadata.FAULT in extra for extra in seen] == [True, True, False]
    assert [attempt.fault_id for attempt in attempts_of(hops)] == ["f0", "f1", ""]


async def test_the_fault_behind_a_failed_call_is_named() -> None:
    time = VirtualClock()
    hops = hops_at(time, Policy(retries=0), annotate=lambda key: {metadata.FAULT: '{"id": "stall-3"}'})
    error = await make_call(hops, time, [(Code.OK, 9.0)])
    assert error is not None
    assert error.fault_id == "stall-3"


async def test_what_is_no_hop_s_error_is_neither_swallowed_nor_recorded() -> None:
    time = VirtualClock()
    hops = hops_at(time, Policy(retries=3))
    with pytest.raises(ZeroDivisionError):
        await fail_always(hops, ZeroDivisionError())
    assert attempts_of(hops) == []


async def test_an_expired_deadline_makes_no_attempt() -> None:
    time = VirtualClock()
    hops = hops_at(time, Policy(), run_timeout_s=0.0)
    error = await make_call(hops, time, [(Code.OK, 0.0)])
    assert error is not None
    assert (error.kind, error.definite) == ("deadline_exceeded", True)
    assert attempts_of(hops) == []


async def test_a_call_s_span_has_one_for_each_attempt_and_each_wait(tmp_path: Path) -> None:
    time = VirtualClock()
    fault = {metadata.FAULT: '{"id": "tool/7/0"}'}
    with traced("test", path=tmp_path, endpoint=""):
        hops = hops_at(time, Policy(retries=1), annotate=lambda key: fault if key.attempt == 0 else {})
        assert await make_call(hops, time, [(Code.UNAVAILABLE, 0.1), (Code.OK, 0.1)]) is None
        refused = hops_at(time, Policy(retries=0))
        assert await make_call(refused, time, [(Code.UNAVAILABLE, 0.1)], hop="model") is not None
        cancelled = hops_at(time, Policy(retries=0))
        with pytest.raises(KeyError):
            await fail_always(cancelled, KeyError("a bug"))
    first, second, third = sorted(
        read_traces(tmp_path).by_id.values(), key=lambda trace: trace.spans[0].start_s
    )
    assert first.root is not None
    assert (first.root.name, first.root.failed) == ("execute_tool calculator", False)
    assert first.root.attributes["treni.attempts"] == 2
    tried = first.children[first.root.id]
    assert [
        (
            span.name,
            span.failed,
            span.attributes.get("treni.attempt"),
            span.attributes.get("treni.outcome"),
            span.attributes.get("treni.fault.id"),
        )
        for span in tried
    ] == [
        ("attempt tool", True, 0, "unknown", "tool/7/0"),
        ("backoff", False, None, None, None),
        ("attempt tool", False, 1, "ok", None),
    ]
    assert second.root is not None
    assert (second.root.attributes["error.type"], second.root.failed) == ("model_hop_failed", True)
    assert third.root is not None
    assert third.root.attributes["error.type"] == "KeyError"
    assert [span.attributes["treni.outcome"] for span in third.children[third.root.id]] == ["cancelled"]

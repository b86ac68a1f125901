"""Builds synthetic cells in which every run does exactly what is expected of it, from the expectation itself."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from google.protobuf import json_format

from chaos.schedule import Schedule
from controller.policy import Policy
from matrices.arms.parts import parts
from matrices.arms.registry import DEFAULT, arm_named, comparison_of
from matrices.checks.deliveries import deliveries_of
from matrices.checks.effects import rows_of
from matrices.evidence import events as ev
from matrices.planning.expectation import Counter, Expectation, ExpectedAttempt, ExpectedPair, ExpectedRun
from matrices.planning.trace import Terms, expected_run
from matrices.spec.suites import Expected, ExpectedCall, Task
from tests.chaos.predictions import predict_calls
from tests.matrices import histories as h
from treni.v1 import agent_pb2, common_pb2

NO_FAULTS = Schedule(prefix="none")


def task(pair: int, *, calls: int = 0, refused: int = 0) -> Task:
    """A task of `calls` entries in the ledger, the first `refused` of them refused by it; the answer is "42"."""
    made = [
        ExpectedCall(
            name="ledger_append", arguments={"account": "rent", "amount": 5}, refused=number < refused
        )
        for number in range(calls)
    ]
    return Task(
        id=f"task{pair}",
        family="model",
        run=0,
        prompt="?",
        tools=("ledger_append",),
        expect=Expected(answer="42", calls=tuple(made)),
        side_effects=calls - refused,
    )


def faithful_record(
    arm: str, run: ExpectedRun, *, run_id: str, model_s: float, idempotency: bool = True
) -> dict[str, Any]:
    """The record of a run that does exactly what is expected of it; a completion takes `model_s`."""
    attempts: list[agent_pb2.Attempt] = []
    at_s = 0.0001
    for want in run.attempts:
        at_s += want.backoff_s
        lasts_s = max(model_s if want.hop == "model" else 0.002, want.held_s)
        attempts.append(
            faithful_attempt(
                want, arm, start_s=at_s, duration_s=lasts_s, run_id=run_id if idempotency else ""
            )
        )
        at_s += lasts_s
    assert run.turns is not None, "its turns are seen"
    engine_s = model_s * 0.95 * run.turns
    backoff_s = sum(want.backoff_s for want in run.attempts)
    told = agent_pb2.RunRecord(
        arm=arm_named(arm).recorded_as,
        attempts=attempts,
        tools=[h.tool_use(is_error=call.refused) for call in run.calls or ()],
        turns=run.turns,
        total_s=at_s + 0.0001,
        loop_s=0.0002,
        backoff_s=backoff_s,
        pid=h.PIDS[arm_named(arm).agent],
    )
    if run.turns > 0:
        told.MergeFrom(_generated(run.turns, engine_s))
    return json_format.MessageToDict(
        told, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )


def _generated(turns: int, engine_s: float) -> agent_pb2.RunRecord:
    """What the model's turns leave in a record: 12 tokens each, of which the first takes most of the time."""
    return agent_pb2.RunRecord(
        usage=common_pb2.Usage(
            prompt_tokens=200 * turns, completion_tokens=12 * turns, cached_prompt_tokens=100 * (turns - 1)
        ),
        engine=common_pb2.EngineTimings(
            prefill_s=engine_s * 0.5,
            decode_s=engine_s * 0.4,
            sample_s=engine_s * 0.05,
            first_token_s=engine_s * 0.5,
            total_s=engine_s,
            decode_steps=common_pb2.StepTimes(
                count=11 * turns,
                mean_s=engine_s * 0.4 / 11 / turns,
                p50_s=engine_s * 0.4 / 11 / turns,
                p99_s=engine_s * 0.4 / 11 / turns,
            ),
        ),
        awareness=common_pb2.Awareness(perplexity=1.0),
        backend="numpy",
        device="cpu",
        model="treni-tiny",
    )


def faithful_attempt(
    want: ExpectedAttempt, arm: str, *, start_s: float, duration_s: float, run_id: str
) -> agent_pb2.Attempt:
    """The attempt as expected; `run_id` "" sends no key."""
    faulted = want.fault is not None
    ok = want.outcome == "ok"
    return agent_pb2.Attempt(
        hop=want.hop,
        call_index=want.call_index,
        attempt=want.attempt,
        start_s=start_s,
        duration_s=duration_s,
        outcome=want.outcome,
        code=want.code,
        kind=min(want.kinds or {"ledger_account_unknown"}),
        detail="" if ok else "it broke",
        idempotency_key=f"{run_id}/{want.call_index}" if want.hop == "tool" and run_id else "",
        fault_id=want.fault.id if want.fault is not None else "",
        name=want.name,
        connection=("faulted" if faulted else "reused") if want.hop in arm_named(arm).hops else "none",
    )


def faithful_outcome(
    cell: str, pair: int, arm: str, run: ExpectedRun, *, model_s: float, idempotency: bool = True
) -> ev.Outcome:
    """The outcome of a run that does exactly what is expected of it."""
    told = faithful_record(
        arm, run, run_id=h.run_id(cell, pair, arm), model_s=model_s, idempotency=idempotency
    )
    changes: dict[str, Any] = {"latency_s": told["total_s"] + 0.001, "record": told}
    if run.error is None:
        last = told["attempts"][-1]
        return h.outcome(cell, pair, arm, ttft_s=last["start_s"] + last["duration_s"] / 2, **changes)
    wrong = run.error
    said = ev.RunError(
        code=wrong.code,
        kind=wrong.kind,
        definite=wrong.definite,
        message="it broke",
        hop=wrong.hop,
        fault_id=wrong.fault_id,
    )
    ended = "fail" if wrong.definite else "unknown"
    return h.failed(cell, pair, arm, outcome=ended, error=said, **changes)


def expectation(
    name: str,
    *,
    schedule: Schedule = NO_FAULTS,
    retries: int = 1,
    runs: int = 12,
    per_block: int = 4,
    arms: tuple[str, str] = ("internal", "external"),
    idempotency: bool = True,
) -> Expectation:
    """A cell whose first task of each block makes one `ledger_append` call; the schedule acts on the second arm."""
    tasks = [task(pair, calls=int(pair % per_block == 0)) for pair in range(runs * per_block)]
    comparison = comparison_of(*arms)
    beside = (DEFAULT.compared,) if arms[1].endswith("_b") else ()
    policy = Policy(retries=retries)
    predicted = predict_calls(
        schedule, [len(one.calls) for one in tasks], retries, timeout_s=policy.tool_timeout_s
    )

    def run(arm: str, pair: int) -> ExpectedRun:
        told = Terms(
            arm=arm_named(arm),
            policy=policy,
            idempotency=idempotency,
            side_effect_tools=("ledger_append",),
        )
        request = predicted.requests[pair] if arm == arms[1] and schedule.rules else None
        return expected_run(tasks[pair], told, request_index=pair, request=request)

    return Expectation(
        cell=name,
        comparison=comparison,
        roles=frozenset(parts((*comparison, *beside))),
        pairs=tuple(
            ExpectedPair(
                pair=pair,
                block=pair // per_block,
                task=one,
                stratum=predicted.stratum(pair),
                segment=0,
                order=arms if pair % 2 == 0 else (arms[1], arms[0]),
                runs={arm: run(arm, pair) for arm in arms},
            )
            for pair, one in enumerate(tasks)
        ),
        policy=policy,
        idempotency=idempotency,
        counters=(Counter(key=arms[1], arm=arms[1], hop="tool", site=schedule.site, first=schedule.start),)
        if schedule.rules
        else (),
        breaks_hosts=False,
        standstill_s=0.0,
        disturbs=any(kind.disturbs for kind in schedule.kinds),
    )


def campaign_cell(
    name: str, *, delay_s: float = 0.0, seed: int = 0, profile: str | None = None, **shape: Any
) -> tuple[list[ev.Event], Expectation]:
    """A cell in which every run does what `expectation(name, **shape)` says, the second arm `delay_s` slower."""
    expected = expectation(name, **shape)
    rng = random.Random(f"{name} {seed}")
    pairs: dict[int, list[ev.Event]] = {}
    for pair in expected.pairs:
        late_s = {expected.arms[0]: 0.0, expected.arms[1]: delay_s}
        outcomes = {
            arm: faithful_outcome(
                name,
                pair.pair,
                arm,
                run,
                model_s=0.004 + (abs(rng.gauss(0, 2e-4)) + late_s[arm]) / (run.turns or 1),
                idempotency=expected.idempotency,
            )
            for arm, run in pair.runs.items()
        }
        pairs[pair.pair] = h.pair_events(
            name,
            pair.pair,
            block=pair.block,
            arms=expected.arms,
            outcomes=outcomes,
            planned={arm: tuple(fault.id for fault in run.faults) for arm, run in pair.runs.items()},
            stratum=pair.stratum,
            side_effects=pair.task.side_effects,
        )
    names = {"aa": "aa", "p00": "p00_baseline", "p04": "p04_mixed_aggressive"}
    events = h.cell_events(
        name,
        pairs,
        per_block=sum(pair.block == 0 for pair in expected.pairs),
        profile=names[name] if profile is None else profile,
        arms=expected.arms,
        counters={counter.key: counter.first for counter in expected.counters},
        deliveries={
            arm: tuple(
                row
                for pair in expected.pairs
                for row in deliveries_of(pair.runs[arm], h.run_id(name, pair.pair, arm))
            )
            for arm in expected.arms
        },
        effects={
            arm: tuple(
                row
                for pair in expected.pairs
                for row in rows_of(
                    pair, arm, h.run_id(name, pair.pair, arm), idempotency=expected.idempotency
                )
            )
            for arm in expected.arms
        },
    )
    return timed(events, at_s=0.0 if name == "aa" else 100.0 * (1 + int(name[1:]))), expected


def timed(events: Iterable[ev.Event], *, at_s: float) -> list[ev.Event]:
    """The events on one clock that starts at `at_s`: each step a millisecond after the one before."""
    made: list[ev.Event] = []
    for event in events:
        if isinstance(event, ev.Invoke):
            wall = datetime.fromisoformat(h.WALL) + timedelta(seconds=at_s)
            event = replace(event, mono_s=at_s, wall_time=wall.isoformat(timespec="milliseconds"))
        elif isinstance(event, ev.Block):
            event = replace(event, mono_s=at_s)
        elif isinstance(event, ev.Outcome):
            at_s += event.latency_s
        made.append(event)
        at_s += 0.001
    return made

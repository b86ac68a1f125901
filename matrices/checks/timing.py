"""The times that one run tells, against each other: latency, first text, the record's total, hops, engine stages."""

from __future__ import annotations

import math
from collections.abc import Iterator

from matrices.arms.arm import Arm
from matrices.checks.finding import Finding, Say
from matrices.checks.tolerances import CLOCK_S
from matrices.evidence.hops import hops_of
from matrices.evidence.runs import Run, completed_calls
from matrices.planning.expectation import ExpectedRun
from treni.v1 import agent_pb2

_STAGES = ("queue_s", "tokenize_s", "prefill_s", "decode_s", "sample_s", "detokenize_s", "route_s", "copy_s")


def of_times(
    run: Run, expected: ExpectedRun, arm: Arm, run_timeout_s: float, late_s: float, say: Say
) -> Iterator[Finding]:
    """Findings about the times of one run of the arm; `late_s` is how much later than planned a process may act."""
    latency_s, record = run.outcome.latency_s, run.record
    least_s = 0.0 if expected.hurried else expected.waits_s
    if not max(0.0, least_s - CLOCK_S) < latency_s <= run_timeout_s + late_s:
        limits = f"over {least_s * 1e3:.3f} and up to {run_timeout_s * 1e3:.0f} ms"
        yield say("latency_impossible", f"expected {limits}, got {latency_s * 1e3:.3f}")
    yield from _of_first_text(run, say)
    if record is None:
        return
    if not 0 < record.total_s <= latency_s + CLOCK_S:
        detail = f"the record's total is {record.total_s * 1e3:.3f} ms, the latency {latency_s * 1e3:.3f}"
        yield say("latency_impossible", detail)
    parts = hops_of(run)
    assert parts is not None, "there is a record"
    # The client waits beyond the record's total only for what holds its own call.
    entry = expected.entry
    client_s = late_s if entry is None or entry.ending is None else late_s + entry.ending.most_s
    # In some parts only the machine itself is waited for; a run awaits nothing outside of its attempts.
    for name in (
        "client",
        "loop",
        "backoff",
        "model_hop",
        "engine_other",
        "tool_hop",
        "black_box",
        "unexplained",
    ):
        value_s = getattr(parts, name)
        if not value_s >= -CLOCK_S:
            yield say("hops_negative", f"{name} is {value_s * 1e3:.3f} ms")
        elif not value_s <= {"client": client_s, "loop": late_s, "unexplained": CLOCK_S}.get(name, math.inf):
            yield say("overhead_unlikely", f"{name} is {value_s * 1e3:.3f} ms")
    if not record.total_s - record.loop_s - record.backoff_s >= -CLOCK_S:
        yield say(
            "hops_negative", f"the loop's {record.loop_s * 1e3:.3f} ms leave no time for what it awaited"
        )
    if arm.engine_timings:
        yield from _of_engine(record, say)
    if arm.seen:
        yield from _of_tools(run, record, planned=expected.calls is not None, say=say)


def _of_first_text(run: Run, say: Say) -> Iterator[Finding]:
    ttft_s = run.outcome.ttft_s
    if ttft_s is None:
        if run.ok and run.outcome.answer:
            yield say("ttft_impossible", "an answer without a first text")
        return
    # No text comes before the model was asked for the first time with success.
    first = next((one for one in run.attempts if one.hop == "model" and one.outcome == "ok"), None)
    least_s = 0.0 if first is None else first.start_s - CLOCK_S
    if not max(0.0, least_s) < ttft_s <= run.outcome.latency_s + CLOCK_S:
        detail = f"{ttft_s * 1e3:.3f} ms, of {run.outcome.latency_s * 1e3:.3f} until the end"
        yield say("ttft_impossible", f"{detail}, the model asked after {least_s * 1e3:.3f}")


def _of_engine(record: agent_pb2.RunRecord, say: Say) -> Iterator[Finding]:
    engine, steps = record.engine, record.engine.decode_steps
    stages = {name: getattr(engine, name) for name in _STAGES}
    for name, value_s in {**stages, "first_token_s": engine.first_token_s, "total_s": engine.total_s}.items():
        if not 0 <= value_s < math.inf:
            yield say("stages_impossible", f"the engine's {name} is {value_s}")
    for what, part_s in (
        ("the stages in sum", math.fsum(stages.values())),
        ("the first token", engine.first_token_s),
        ("the first token and the steps after it", engine.first_token_s + steps.count * steps.mean_s),
        ("the median step", steps.p50_s),
        ("the slowest steps", steps.p99_s),
    ):
        if not 0 <= part_s <= engine.total_s + CLOCK_S:
            total = f"the engine's total is {engine.total_s * 1e3:.3f} ms"
            yield say("stages_impossible", f"{what}: {part_s * 1e3:.3f} ms, and {total}")
    prompt_s = engine.tokenize_s + engine.prefill_s
    if not prompt_s <= engine.first_token_s + CLOCK_S * record.turns:
        detail = (
            f"{prompt_s * 1e3:.3f} ms on prompts, and the first token after {engine.first_token_s * 1e3:.3f}"
        )
        yield say("stages_impossible", detail)
    if steps.p50_s > steps.p99_s or (steps.count == 0) != (steps.mean_s == 0):
        yield say("stages_impossible", f"{steps.count} steps, {steps.mean_s} {steps.p50_s} {steps.p99_s}")
    if record.turns > 0 and not (engine.total_s > 0 and engine.first_token_s > 0):
        yield say("stages_impossible", f"{record.turns} turns in no time")


def _of_tools(run: Run, record: agent_pb2.RunRecord, *, planned: bool, say: Say) -> Iterator[Finding]:
    """Each tool's own time lies within the attempt that it answered; a refusal tells no time.

    Where nobody `planned` the calls, some that the model wrote may have gone to no tool.
    """
    lasted_s = {one.call_index: one.duration_s for one in run.attempts if one.hop == "tool"}
    uses = enumerate(record.tools) if planned else completed_calls(record).items()
    for index, use in uses:
        limit_s = 0.0 if use.is_error else lasted_s.get(index, 0.0)
        if not (0 <= use.tool_s <= limit_s + (0.0 if use.is_error else CLOCK_S)):
            detail = f"{use.name} took {use.tool_s * 1e3:.3f} ms of {limit_s * 1e3:.3f}"
            yield say("stages_impossible", detail)

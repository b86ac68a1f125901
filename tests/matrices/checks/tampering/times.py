"""Latencies, first texts, totals, stages and clocks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.matrices.checks.tampering.answers import answered
from tests.matrices.checks.tampering.attempts import shift
from tests.matrices.checks.tampering.folder import Data, Folder, add, tampers

SLOW = "latency_impossible"


def scale(value: Any, factor: float) -> Any:
    """Every time in a record, or in a part of one, times the factor."""
    if isinstance(value, dict):
        return {
            name: one * factor if isinstance(one, float) and name.endswith("_s") else scale(one, factor)
            for name, one in value.items()
        }
    if isinstance(value, list):
        return [scale(one, factor) for one in value]
    return value


def slower(c: Folder, outcome: Data, by_s: float) -> None:
    """The client waited longer, and all that follows came later."""
    outcome["latency_s"] += by_s
    c.later(outcome, by_s)


@tampers(SLOW, "hops_negative")
def latencies_of_an_arm_are_halved(c: Folder) -> None:
    for outcome in c.outcomes(cell="p03", arm="external"):
        outcome["latency_s"] /= 2


@tampers("overhead_unlikely")
def times_of_an_arm_are_halved_but_for_the_harness_clock(c: Folder) -> None:
    for outcome in c.outcomes(cell="aa", arm="internal"):
        outcome["latency_s"] /= 2
        outcome["ttft_s"] /= 2
        outcome["record"] = scale(outcome["record"], 0.5)


@tampers("attempt_duration", "backoff_wrong", "fault_not_observed")
def times_of_a_faulted_arm_are_halved_everywhere(c: Folder) -> None:
    for outcome in c.outcomes(cell="p03", arm="external"):
        saved_s = outcome["latency_s"] / 2
        outcome["latency_s"] /= 2
        outcome["ttft_s"] = None if outcome["ttft_s"] is None else outcome["ttft_s"] / 2
        outcome["record"] = scale(outcome["record"], 0.5)
        c.later(outcome, -saved_s)


@tampers("clock_impossible")
def times_of_an_arm_are_doubled_but_for_the_harness_clock(c: Folder) -> None:
    for outcome in c.outcomes(cell="aa", arm="internal_b"):
        outcome["latency_s"] *= 2
        outcome["ttft_s"] *= 2
        outcome["record"] = scale(outcome["record"], 2)


@tampers("clock_impossible")
def one_latency_is_a_second_longer(c: Folder) -> None:
    c.outcome(cell="p03", arm="external")["latency_s"] += 1


@tampers("overhead_unlikely")
def one_latency_is_a_second_longer_and_all_that_follows_later(c: Folder) -> None:
    slower(c, c.outcome(cell="p03", arm="external"), 1)


@tampers("overhead_unlikely")
def every_latency_of_an_arm_is_50_ms_longer(c: Folder) -> None:
    for outcome in c.outcomes(cell="p03", arm="external"):
        slower(c, outcome, 0.05)


@tampers("overhead_unlikely")
def every_latency_of_an_arm_is_50_ms_longer_within_the_loop(c: Folder) -> None:
    for outcome in c.outcomes(cell="aa", arm="internal_b"):
        for name in ("total_s", "loop_s"):
            outcome["record"][name] += 0.05
        slower(c, outcome, 0.05)


@tampers("overhead_unlikely")
def every_latency_of_an_arm_is_50_ms_longer_outside_of_any_attempt(c: Folder) -> None:
    for outcome in c.outcomes(cell="aa", arm="internal_b"):
        outcome["record"]["total_s"] += 0.05
        slower(c, outcome, 0.05)


@tampers("overhead_unlikely")
def the_loop_of_an_arm_never_waited(c: Folder) -> None:
    for outcome in c.outcomes(cell="aa", arm="internal_b"):
        outcome["record"]["loop_s"] = outcome["record"]["total_s"]


@tampers("overhead_unlikely")
def every_call_of_an_arm_is_50_ms_longer_on_its_hop(c: Folder) -> None:
    for outcome in c.outcomes(cell="aa", arm="internal_b"):
        record = outcome["record"]
        for place, attempt in enumerate(record["attempts"]):
            attempt["duration_s"] += 0.05
            shift(record, place + 1, 0.05)
        slower(c, outcome, 0.05 * len(record["attempts"]))


@tampers("clock_impossible", SLOW)
def latencies_move_to_the_other_arm(c: Folder) -> None:
    for outcome in c.outcomes(cell="p03", arm="external"):
        other = c.outcome(cell="p03", arm="internal", pair=outcome["pair"])
        outcome["latency_s"], other["latency_s"] = other["latency_s"], outcome["latency_s"]


for name, number in (("zero", 0.0), ("negative", -0.5), ("a minute", 60.0)):

    def lasts(c: Folder, number: float = number) -> None:
        c.outcome(cell="p03", arm="internal")["latency_s"] = number

    add(f"a latency is {name}", lasts, SLOW)

for name, told in (("zero", 0.0), ("negative", -0.1), ("after the end", 9.0), ("missing", None)):

    def first_text(c: Folder, ttft_s: float | None = told) -> None:
        answered(c, cell="p03", arm="internal")["ttft_s"] = ttft_s

    add(f"a first text is {name}", first_text, "ttft_impossible")


@tampers("ttft_impossible")
def a_first_text_comes_before_the_model_was_asked(c: Folder) -> None:
    outcome = answered(c, cell="aa")
    outcome["ttft_s"] = outcome["record"]["attempts"][0]["start_s"] / 100 - 0.002


RECORD: dict[str, tuple[Callable[[Data], None], tuple[str, ...]]] = {
    "total beyond the latency": (lambda r: r.update(total_s=r["total_s"] + 1), (SLOW, "hops_negative")),
    "total of half the time": (
        lambda r: r.update(total_s=r["total_s"] / 2),
        ("hops_negative", "attempt_overlap"),
    ),
    "total of zero": (lambda r: r.update(total_s=0.0), (SLOW,)),
    "total that is no number": (lambda r: r.update(total_s="NaN"), (SLOW,)),
    "loop of a negative time": (lambda r: r.update(loop_s=-0.1), ("hops_negative",)),
    "backoff that nobody waited": (lambda r: r.update(backoff_s=0.4), ("backoff_wrong",)),
    "stage of a negative time": (lambda r: r["engine"].update(queue_s=-0.1), ("stages_impossible",)),
    "stage beyond the total": (lambda r: r["engine"].update(decode_s=99.0), ("stages_impossible",)),
    "engine beyond its attempts": (lambda r: r["engine"].update(total_s=99.0), ("hops_negative",)),
    "engine of no time": (lambda r: r["engine"].update(total_s=0.0), ("stages_impossible",)),
    "first token after the end": (lambda r: r["engine"].update(first_token_s=99.0), ("stages_impossible",)),
    "first token at once": (lambda r: r["engine"].update(first_token_s=0.0), ("stages_impossible",)),
    "step more": (
        lambda r: r["engine"]["decode_steps"].update(count=r["engine"]["decode_steps"]["count"] + 1),
        ("usage_wrong",),
    ),
    "step of a second": (lambda r: r["engine"]["decode_steps"].update(mean_s=1.0), ("stages_impossible",)),
    "median step over the slowest": (
        lambda r: r["engine"]["decode_steps"].update(p50_s=r["engine"]["decode_steps"]["p99_s"] * 2),
        ("stages_impossible",),
    ),
    "tool beyond its attempt": (lambda r: r["tools"][-1].update(tool_s=9.0), ("stages_impossible",)),
    "tool of a negative time": (lambda r: r["tools"][-1].update(tool_s=-0.1), ("stages_impossible",)),
}

for name, (change, kinds) in RECORD.items():

    def recorded(c: Folder, change: Callable[[Data], None] = change) -> None:
        change(answered(c, cell="aa")["record"])

    add(f"a record has a {name}", recorded, *kinds)


@tampers("clock_impossible")
def an_invoke_comes_before_the_run_before_it_ended(c: Folder) -> None:
    c.all("invoke", cell="p04t")[3]["mono_s"] -= 0.1


@tampers("clock_impossible", "clock_stepped")
def a_pause_is_made_up(c: Folder) -> None:
    c.later(c.one("pair", cell="p04t", pair=3), 20.0)


@tampers("clock_impossible")
def a_block_ends_before_its_last_run(c: Folder) -> None:
    c.one("block", cell="p04t", block=0, phase="end")["mono_s"] -= 0.5


@tampers("clock_impossible")
def a_block_begins_after_its_first_run(c: Folder) -> None:
    c.one("block", cell="p04t", block=0, phase="start")["mono_s"] += 0.5


@tampers("clock_impossible", "clock_stepped")
def two_invokes_change_their_times(c: Folder) -> None:
    one, other = c.all("invoke", cell="p04t")[:2]
    for name in ("mono_s", "wall_time"):
        one[name], other[name] = other[name], one[name]


for name, moment in (
    ("of another day", "2020-01-01T00:00:00.000+00:00"),
    ("of another year", "2099-01-01T00:00:00.000+00:00"),
    ("without an offset", "2026-01-01T00:00:00"),
    ("of words", "noon"),
):

    def wall(c: Folder, moment: str = moment) -> None:
        c.all("invoke", cell="p03")[2]["wall_time"] = moment

    add(f"an invoke has a wall time {name}", wall, "clock_stepped", "clock_impossible")


@tampers("pair_not_as_planned")
def a_request_has_another_index(c: Folder) -> None:
    c.one("invoke", cell="p03", pair=3)["request_index"] = 4


for name, value in (
    ("missing", {}),
    ("negative", {"load1": -1.0, "steal_fraction": 0.0, "other_cpu_fraction": 0.0}),
):

    def conditions(c: Folder, value: dict[str, float] = value) -> None:
        c.one("block", cell="p04t", block=0, phase="end")["conditions"] = value

    add(f"conditions are {name}", conditions, "conditions_missing", "conditions_impossible")

"""Who ran what: run ids, arms, processes, models, tokens."""

from __future__ import annotations

import json
from typing import Any

from tests.matrices.checks.tampering.answers import answered
from tests.matrices.checks.tampering.folder import Data, Folder, add, tampers

TRACE = ("attempt_wrong", "connection_wrong", "arm_swapped", "run_id_wrong")


def renamed(c: Folder, run_id: str, other: str) -> None:
    """One run's id, wherever it stands."""
    c.events = json.loads(json.dumps(c.events).replace(run_id, other))


@tampers("run_id_wrong")
def a_run_has_another_name_everywhere(c: Folder) -> None:
    renamed(c, "p04t/3/external/", "p04t/3/external/7")


@tampers("run_id_wrong", "effect_lost", "effect_stranger")
def two_runs_change_their_names(c: Folder) -> None:
    for kind in ("invoke", "outcome"):
        one, other = (
            c.one(kind, cell="aa", pair=0, arm="internal"),
            c.one(kind, cell="aa", pair=1, arm="internal"),
        )
        one["run_id"], other["run_id"] = other["run_id"], one["run_id"]


@tampers("event_stray", "outcome_missing")
def an_outcome_has_another_runs_name(c: Folder) -> None:
    c.outcome(cell="p04t", arm="external")["run_id"] = "p04t/9/external/0"


@tampers("run_id_wrong", "start_not_as_planned")
def a_whole_cell_is_of_another_epoch(c: Folder) -> None:
    for event in c.events:
        if event["type"] == "cell" and event["cell"] == "p04t":
            event["epoch"] = 0
    text = json.dumps(c.events)
    for arm in ("internal", "external"):
        for pair in range(8):
            text = text.replace(f"p04t/{pair}/{arm}/1", f"p04t/{pair}/{arm}/0")
    c.events = json.loads(text)


@tampers("arm_swapped")
def a_record_is_of_the_other_arm(c: Folder) -> None:
    answered(c, cell="p03", arm="external")["record"]["arm"] = "internal"


@tampers("arm_swapped")
def a_record_is_of_another_process(c: Folder) -> None:
    answered(c, cell="p03", arm="external")["record"]["pid"] += 1


@tampers("arm_swapped")
def a_record_is_of_no_process(c: Folder) -> None:
    answered(c, cell="p03", arm="internal")["record"]["pid"] = 0


def swap(one: Data, other: Data, *names: str) -> None:
    """The values of these fields change places."""
    for name in names:
        one[name], other[name] = other[name], one[name]


@tampers(*TRACE)
def the_outcomes_of_a_pair_change_places(c: Folder) -> None:
    one, other = c.outcomes(cell="p03", pair=2)
    swap(one, other, "outcome", "error", "latency_s", "ttft_s", "answer", "correct", "record")


@tampers(*TRACE)
def the_arms_of_every_pair_change_places(c: Folder) -> None:
    for started in c.all("pair", cell="p03"):
        outcomes = c.outcomes(cell="p03", pair=started["pair"])
        one, other = outcomes[-2:]
        swap(one, other, "outcome", "error", "latency_s", "ttft_s", "answer", "correct", "record")


@tampers(*TRACE, "effect_lost")
def the_two_runtimes_change_places(c: Folder) -> None:
    """The A/A cell: nothing but the processes tells its arms apart."""
    for started in c.all("pair", cell="aa"):
        one, other = c.outcomes(cell="aa", pair=started["pair"])
        swap(one, other, "latency_s", "ttft_s", "answer", "record")
        invokes = c.all("invoke", cell="aa", pair=started["pair"])
        swap(invokes[0], invokes[1], "wall_time")


@tampers(*TRACE, "connection_wrong", "fault_not_observed")
def the_arms_change_places_with_their_processes(c: Folder) -> None:
    for start in c.all("cell", cell="p03"):
        pids = start["pids"]
        pids["runtime"], pids["controller"] = pids["controller"], pids["runtime"]
    for started in c.all("pair", cell="p03"):
        one, other = c.outcomes(cell="p03", pair=started["pair"])[-2:]
        swap(one, other, "outcome", "error", "latency_s", "ttft_s", "answer", "correct", "record")
        swap(one["record"], other["record"], "arm")


@tampers("arm_swapped")
def the_runtimes_of_the_a_a_cell_are_one(c: Folder) -> None:
    pid = c.one("cell", cell="aa")["pids"]["runtime"]
    for outcome in c.outcomes(cell="aa"):
        outcome["record"]["pid"] = pid


@tampers("start_not_as_planned")
def two_roles_have_one_process(c: Folder) -> None:
    pids = c.one("cell", cell="aa")["pids"]
    for outcome in c.outcomes(cell="aa"):
        outcome["record"]["pid"] = pids["runtime"]
    pids["runtime_b"] = pids["runtime"]


for name, value in (("model", "qwen"), ("backend", "cupy"), ("device", "H200")):

    def told(c: Folder, name: str = name, value: str = value) -> None:
        answered(c, cell="p03")["record"][name] = value

    add(f"a record has another {name}", told, "backend_swapped")

    def promised(c: Folder, name: str = name, value: str = value) -> None:
        c.manifest["model"]["name" if name == "model" else name] = value

    add(f"the manifest has another {name}", promised, "backend_swapped")


@tampers("decoding_otherwise")
def a_campaign_says_that_calls_were_held_to_their_schemas(c: Folder) -> None:
    c.manifest["details"]["constrain_calls"] = True


USAGE: dict[str, dict[str, Any]] = {
    "no tokens": {"prompt_tokens": 0, "completion_tokens": 0, "cached_prompt_tokens": 0},
    "no prompt tokens": {"prompt_tokens": 0},
    "more cached tokens than a run can find": {"cached_prompt_tokens": 10**6},
    "a token more": {"completion_tokens": 10**4},
}

for name, usage in USAGE.items():

    def used(c: Folder, usage: dict[str, Any] = usage) -> None:
        answered(c, cell="p03")["record"]["usage"].update(usage)

    add(f"a record has {name}", used, "usage_wrong", "pair_void")


@tampers("tokens_differ")
def both_arms_of_a_pair_read_more_tokens(c: Folder) -> None:
    for outcome in c.outcomes(cell="aa", pair=3):
        outcome["record"]["usage"]["prompt_tokens"] += 5


@tampers("pair_void")
def one_arm_found_more_in_its_cache(c: Folder) -> None:
    answered(c, cell="aa")["record"]["usage"]["cached_prompt_tokens"] += 5


AWARE: dict[str, Any] = {
    "mean_logprob": 0.5,
    "perplexity": 7.0,
    "max_entropy": -1.0,
    "min_margin": -1.0,
    "low_confidence_tokens": 10**6,
    "route_uncertainty": 1.5,
}

for name, value in AWARE.items():

    def aware(c: Folder, name: str = name, value: Any = value) -> None:
        answered(c, cell="p03")["record"]["awareness"][name] = value

    add(f"a record has an impossible {name}", aware, "usage_wrong")

"""Attempts: their order, endings, keys, connections and times; and what is logged of their faults."""

from __future__ import annotations

from typing import Any

from tests.matrices.checks.tampering.answers import answered
from tests.matrices.checks.tampering.folder import Data, Folder, add, tampers

WRONG = "attempt_wrong"
LOGGED = ("fault_not_delivered", "fault_not_planned", "fault_delivered_otherwise", "fault_delivered_twice")


def shift(record: Data, place: int, by_s: float) -> None:
    """Moves the attempts from `place` on, and the record's end."""
    for attempt in record["attempts"][place:]:
        attempt["start_s"] += by_s
    record["total_s"] += by_s


@tampers(WRONG, "retries_unplanned", *LOGGED)
def a_retry_is_hidden_with_its_fault(c: Folder) -> None:
    outcome, place = c.retried(cell="p03", arm="external")
    attempts = outcome["record"]["attempts"]
    fault_id = attempts.pop(place - 1)["fault_id"]
    attempts[place - 1]["attempt"] = 0
    for event in c.all("deliveries", cell="p03", arm="external"):
        event["faults"] = [row for row in event["faults"] if row["fault_id"] != fault_id]


@tampers(WRONG, "retries_unplanned")
def a_retry_is_hidden(c: Folder) -> None:
    outcome, place = c.retried(cell="p03", arm="external")
    del outcome["record"]["attempts"][place]


@tampers(WRONG, "retries_unplanned")
def retries_are_numbered_as_first_attempts(c: Folder) -> None:
    for outcome in c.outcomes(cell="p04t"):
        for attempt in outcome["record"]["attempts"]:
            attempt["attempt"] = 0


@tampers(WRONG)
def an_attempt_is_made_up(c: Folder) -> None:
    record = answered(c, cell="p03", arm="internal")["record"]
    record["attempts"].append({**record["attempts"][-1], "start_s": record["total_s"], "duration_s": 0.0})


@tampers(WRONG, "attempt_overlap")
def attempts_change_places(c: Folder) -> None:
    answered(c, cell="p03", arm="internal")["record"]["attempts"].reverse()


for name, value in (
    ("hop", "model"),
    ("call_index", 7),
    ("name", "calculator "),
    ("fault_id", ""),
    ("fault_id of another", "p04t:tool:n1:status"),
    ("outcome", "ok"),
    ("outcome proved", "fail"),
    ("code", "UNAVAILABLE"),
    ("kind", ""),
    ("kind of another", "injected_status"),
    ("detail", ""),
    ("idempotency_key", ""),
    ("idempotency_key of another", "p04t/0/external/0/9"),
    ("connection", "reused"),
    ("connection of nothing", "none"),
):

    def stalled(c: Folder, name: str = name, value: Any = value) -> None:
        c.met("stall", cell="p04t", arm="external")[1][name.split(" ")[0]] = value

    add(f"a stalled attempt has another {name}", stalled, WRONG, "connection_wrong", "fault_not_observed")


@tampers(WRONG)
def every_attempt_of_a_call_has_its_own_key(c: Folder) -> None:
    for outcome in c.outcomes(cell="p03"):
        for attempt in outcome["record"]["attempts"]:
            if attempt["hop"] == "tool":
                attempt["idempotency_key"] += f"/{attempt['attempt']}"


@tampers("connection_wrong")
def an_internal_attempt_has_a_connection(c: Folder) -> None:
    answered(c, cell="p03", arm="internal")["record"]["attempts"][0]["connection"] = "reused"


@tampers("connection_wrong")
def external_attempts_have_no_connection(c: Folder) -> None:
    for attempt in answered(c, cell="p03", arm="external")["record"]["attempts"]:
        attempt["connection"] = "none"


@tampers("connection_wrong")
def an_attempt_without_a_fault_went_out_on_a_faulty_connection(c: Folder) -> None:
    answered(c, cell="p03", arm="external")["record"]["attempts"][0]["connection"] = "faulted"


@tampers("attempt_duration", "fault_not_observed")
def a_stall_is_over_at_once(c: Folder) -> None:
    outcome, attempt = c.met("stall", cell="p03", arm="external")
    saved_s = attempt["duration_s"] - 0.01
    attempt["duration_s"] = 0.01
    shift(outcome["record"], outcome["record"]["attempts"].index(attempt) + 1, -saved_s)
    outcome["latency_s"] -= saved_s
    c.later(outcome, -saved_s)


@tampers("attempt_duration", "fault_not_observed")
def stalls_last_half_their_time(c: Folder) -> None:
    for outcome in c.outcomes(cell="p03", arm="external"):
        for attempt in outcome["record"]["attempts"]:
            if attempt["fault_id"].endswith(":stall"):
                attempt["duration_s"] /= 2


@tampers("attempt_duration")
def a_stall_lasts_two_seconds_more(c: Folder) -> None:
    outcome, attempt = c.met("stall", cell="p03", arm="external")
    attempt["duration_s"] += 2
    shift(outcome["record"], outcome["record"]["attempts"].index(attempt) + 1, 2)
    outcome["latency_s"] += 2
    c.later(outcome, 2)


@tampers("attempt_duration")
def a_status_lasts_longer_than_the_timeout(c: Folder) -> None:
    outcome, attempt = c.met("status", cell="p03", arm="external")
    attempt["duration_s"] += 1
    shift(outcome["record"], outcome["record"]["attempts"].index(attempt) + 1, 1)
    outcome["latency_s"] += 1
    c.later(outcome, 1)


@tampers("overhead_unlikely")
def every_stall_lasts_a_little_more(c: Folder) -> None:
    for outcome in c.outcomes(cell="p04t", arm="external"):
        record, late_s = outcome["record"], 0.0
        for place, attempt in enumerate(record["attempts"]):
            if attempt["fault_id"].endswith(":stall"):
                attempt["duration_s"] += 0.05
                shift(record, place + 1, 0.05)
                late_s += 0.05
        outcome["latency_s"] += late_s
        c.later(outcome, late_s)


@tampers("backoff_wrong")
def a_backoff_is_not_waited(c: Folder) -> None:
    outcome, place = c.retried(cell="p03", arm="external")
    record = outcome["record"]
    saved_s = record["backoff_s"] * 0.5
    shift(record, place, -saved_s)
    record["backoff_s"] -= saved_s
    outcome["latency_s"] -= saved_s
    c.later(outcome, -saved_s)


@tampers("backoff_wrong")
def a_backoff_takes_two_seconds(c: Folder) -> None:
    outcome, place = c.retried(cell="p03", arm="external")
    record = outcome["record"]
    shift(record, place, 2)
    record["backoff_s"] += 2
    outcome["latency_s"] += 2
    c.later(outcome, 2)


@tampers("overhead_unlikely")
def every_backoff_is_twice_as_long(c: Folder) -> None:
    for outcome in c.outcomes(cell="p04t"):
        record, late_s = outcome["record"], 0.0
        for place, attempt in enumerate(record["attempts"]):
            if attempt["attempt"] > 0:
                shift(record, place, 0.1)
                late_s += 0.1
        record["backoff_s"] += late_s
        outcome["latency_s"] += late_s
        c.later(outcome, late_s)


@tampers("backoff_wrong")
def the_sum_of_backoffs_is_another(c: Folder) -> None:
    outcome, _ = c.retried(cell="p03", arm="external")
    outcome["record"]["backoff_s"] *= 0.5


@tampers("attempt_overlap", "backoff_wrong")
def an_attempt_begins_before_the_one_before_it_ends(c: Folder) -> None:
    answered(c, cell="p03")["record"]["attempts"][1]["start_s"] -= 0.02


@tampers("attempt_overlap", "hops_negative")
def the_last_attempt_ends_after_the_record(c: Folder) -> None:
    record = answered(c, cell="p03")["record"]
    record["attempts"][-1]["duration_s"] += 0.2


for name, number in (("negative", -0.1), ("infinite", "Infinity"), ("no number", "NaN")):

    def lasts(c: Folder, number: Any = number) -> None:
        answered(c, cell="p03")["record"]["attempts"][0]["duration_s"] = number

    add(f"an attempt's duration is {name}", lasts, "attempt_duration", "history_malformed")


@tampers(WRONG, "attempt_overlap", "calls_wrong", "hops_negative")
def the_attempts_of_two_runs_change_places(c: Folder) -> None:
    one, other = c.outcome(cell="aa", pair=0)["record"], c.outcome(cell="aa", pair=1)["record"]
    one["attempts"], other["attempts"] = other["attempts"], one["attempts"]


def logs(c: Folder) -> Data:
    """The delivery log of p04t's external arm."""
    return c.one("deliveries", cell="p04t", arm="external")


@tampers("fault_not_delivered")
def a_delivery_is_dropped(c: Folder) -> None:
    logs(c)["faults"].pop()


@tampers("fault_delivered_twice")
def a_delivery_comes_twice(c: Folder) -> None:
    logs(c)["faults"].append(dict(logs(c)["faults"][0]))


for name, value in (
    ("kind", "reset"),
    ("hop", "model"),
    ("site", "hop"),
    ("how", "lane"),
    ("attempt", 4),
    ("run_id", "p04t/7/external/0"),
    ("run_id of nobody", "x"),
    ("fault_id", "p04t:tool:n77:status"),
):

    def delivery(c: Folder, name: str = name, value: Any = value) -> None:
        logs(c)["faults"][0][name.split(" ")[0]] = value

    add(f"a delivery has another {name}", delivery, *LOGGED)


@tampers("fault_not_delivered", "fault_not_planned")
def the_delivery_logs_of_the_arms_change_places(c: Folder) -> None:
    one, other = c.all("deliveries", cell="p04t")[-2:]
    one["faults"], other["faults"] = other["faults"], one["faults"]


@tampers("fault_not_planned")
def a_fault_is_delivered_that_was_not_planned(c: Folder) -> None:
    row = dict(logs(c)["faults"][0], fault_id="p04t:tool:n99:status")
    logs(c)["faults"].append(row)


@tampers(*LOGGED, "fault_not_observed", WRONG, "pair_not_as_planned", "connection_wrong")
def faults_are_hidden_throughout(c: Folder) -> None:
    for event in c.all("deliveries", cell="p03"):
        event["faults"] = []
    for started in c.all("pair", cell="p03"):
        started.update(planned_faults={"internal": [], "external": []}, stratum="-")
    for outcome in c.outcomes(cell="p03"):
        for attempt in outcome["record"]["attempts"]:
            attempt["fault_id"] = ""


@tampers("log_missing", "event_stray")
def a_delivery_log_is_dropped(c: Folder) -> None:
    c.drop(logs(c))

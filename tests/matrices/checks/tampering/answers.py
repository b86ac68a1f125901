"""Answers, grades, tool calls, and how runs ended."""

from __future__ import annotations

from tests.matrices.checks.tampering.folder import Data, Folder, add, tampers


def answered(c: Folder, **fields: str) -> Data:
    """A run that ended with an answer and called a tool."""
    return c.outcome(lambda one: one["outcome"] == "ok" and len(one["record"]["tools"]) > 1, **fields)


def failed(c: Folder, **fields: str) -> Data:
    """A run that ended without an answer."""
    return c.outcome(lambda one: one["outcome"] != "ok", **fields)


@tampers("answer_wrong", "grade_wrong")
def a_wrong_answer_stays_correct(c: Folder) -> None:
    answered(c, cell="p03", arm="external")["answer"] = "The result is 7."


@tampers("answer_wrong")
def a_wrong_answer_is_called_so(c: Folder) -> None:
    answered(c, cell="p03", arm="external").update(answer="The result is 7.", correct=False)


@tampers("answer_wrong", "grade_wrong")
def a_wrong_answer_in_both_arms(c: Folder) -> None:
    for outcome in c.outcomes(cell="aa", pair=1):
        outcome["answer"] += "!"


@tampers("grade_wrong")
def a_right_answer_is_called_wrong(c: Folder) -> None:
    answered(c, cell="p03", arm="external")["correct"] = False


@tampers("grade_wrong")
def a_right_answer_is_not_graded(c: Folder) -> None:
    answered(c, cell="p03", arm="external")["correct"] = None


@tampers("answer_wrong")
def the_answer_of_another_task(c: Folder) -> None:
    one, other = c.outcome(cell="aa", pair=0, arm="internal"), c.outcome(cell="aa", pair=1, arm="internal")
    one["answer"], other["answer"] = other["answer"], one["answer"]


@tampers("answer_wrong")
def another_answer_is_expected(c: Folder) -> None:
    c.suite[2]["expect"]["answer"] = "The result is 7."


@tampers("calls_wrong", "effect_altered")
def another_call_is_expected(c: Folder) -> None:
    c.suite[0]["expect"]["calls"][-1]["arguments"]["amount"] += 1


@tampers("attempt_wrong", "calls_wrong", "manifest_inconsistent")
def one_call_fewer_is_expected(c: Folder) -> None:
    c.suite[1]["expect"]["calls"].pop(0)


@tampers("attempt_wrong", "effect_lost", "calls_wrong", "attempt_unexplained")
def a_refusal_is_expected_elsewhere(c: Folder) -> None:
    calls = next(t["expect"]["calls"] for t in c.suite if any(k.get("refused") for k in t["expect"]["calls"]))
    for call in calls:
        call["refused"] = not call.get("refused", False)


for name, change in (
    ("name", "facts_sql"),
    ("arguments_json", '{"expression": "1 + 1"}'),
    ("result_json", '{"value": 1}'),
    ("result_json of no tool", "42"),
    ("is_error", True),
):

    def use(c: Folder, name: str = name, change: object = change) -> None:
        outcome = c.outcome(
            lambda one: any(use["name"] == "calculator" for use in one["record"]["tools"]), cell="aa"
        )
        used = next(use for use in outcome["record"]["tools"] if use["name"] == "calculator")
        used[name.split(" ")[0]] = change

    add(f"a tool call has another {name}", use, "calls_wrong", "result_differs", "pair_void")


@tampers("calls_wrong", "result_differs")
def the_ledger_acknowledges_another_amount(c: Folder) -> None:
    for outcome in c.outcomes(cell="aa"):
        for use in outcome["record"]["tools"]:
            use["result_json"] = use["result_json"].replace('"amount": ', '"amount": 1')


@tampers("calls_wrong")
def a_refusal_is_hidden(c: Folder) -> None:
    for outcome in c.outcomes(cell="aa"):
        for use in outcome["record"]["tools"]:
            use["is_error"] = False


@tampers("calls_wrong", "attempt_wrong")
def a_tool_call_is_dropped(c: Folder) -> None:
    answered(c, cell="aa")["record"]["tools"].pop()


@tampers("calls_wrong")
def a_tool_call_is_made_up(c: Folder) -> None:
    tools = answered(c, cell="aa")["record"]["tools"]
    tools.append(dict(tools[0]))


@tampers("calls_wrong")
def two_tool_calls_change_places(c: Folder) -> None:
    answered(c, cell="aa")["record"]["tools"].reverse()


@tampers("calls_wrong", "usage_wrong")
def another_number_of_turns(c: Folder) -> None:
    answered(c, cell="aa")["record"]["turns"] += 1


@tampers("error_absent", "error_count")
def an_error_becomes_an_answer(c: Folder) -> None:
    outcome = failed(c, cell="p03")
    task = next(task for task in c.suite if task["id"] == c.one("pair", pair=outcome["pair"])["task_id"])
    outcome.update(
        outcome="ok",
        error=None,
        answer=task["expect"]["answer"],
        correct=True,
        ttft_s=outcome["latency_s"] * 0.9,
    )


@tampers("error_unplanned", "error_count")
def an_answer_becomes_an_error(c: Folder) -> None:
    error = failed(c, cell="p03")["error"]
    answered(c, cell="p03", arm="external").update(
        outcome="unknown", error=dict(error), answer=None, correct=None
    )


@tampers("error_absent", "error_unplanned", "error_count")
def errors_move_to_the_other_arm(c: Folder) -> None:
    for outcome in c.outcomes(lambda one: one["outcome"] != "ok", cell="p03", arm="external"):
        other = c.outcome(cell="p03", arm="internal", pair=outcome["pair"])
        for name in ("outcome", "error", "answer", "correct", "ttft_s"):
            outcome[name], other[name] = other[name], outcome[name]


@tampers("outcome_inconsistent")
def what_is_unknown_is_called_a_failure(c: Folder) -> None:
    failed(c, cell="p03")["outcome"] = "fail"


@tampers("error_wrong")
def what_is_unknown_is_called_definite(c: Folder) -> None:
    outcome = failed(c, cell="p03")
    outcome["outcome"] = "fail"
    outcome["error"]["definite"] = True


for name, change in (
    ("code", "INTERNAL"),
    ("kind", "deadline_exceeded"),
    ("hop", "model"),
    ("fault_id", ""),
    ("fault_id of another", "p03:tool:n999:stall"),
):

    def error_of(c: Folder, name: str = name, change: str = change) -> None:
        failed(c, cell="p03")["error"][name.split(" ")[0]] = change

    add(f"an error has another {name}", error_of, "error_wrong")


@tampers("outcome_inconsistent")
def an_error_without_an_error(c: Folder) -> None:
    failed(c, cell="p03")["error"] = None


@tampers("outcome_inconsistent")
def an_answer_with_an_error(c: Folder) -> None:
    answered(c, cell="p03")["error"] = dict(failed(c, cell="p03")["error"])


@tampers("record_missing")
def a_record_is_dropped(c: Folder) -> None:
    answered(c, cell="p03", arm="external")["record"] = None


@tampers("record_missing")
def the_record_of_a_failed_run_is_dropped(c: Folder) -> None:
    failed(c, cell="p03")["record"] = None


@tampers("answer_wrong", "calls_wrong", "run_id_wrong", "attempt_wrong")
def two_outcomes_change_places(c: Folder) -> None:
    one, other = c.outcome(cell="aa", pair=0, arm="internal"), c.outcome(cell="aa", pair=1, arm="internal")
    for name in ("answer", "latency_s", "ttft_s", "record"):
        one[name], other[name] = other[name], one[name]

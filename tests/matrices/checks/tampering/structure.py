"""Events that are dropped, moved, repeated, renamed or made up."""

from __future__ import annotations

import copy

from tests.matrices.checks.tampering.folder import Folder, add, tampers

PLANNED = "pair_not_as_planned"
STRAY = "event_stray"
START = "start_not_as_planned"


@tampers("pair_missing", STRAY)
def a_whole_pair_is_dropped(c: Folder) -> None:
    c.drop(*c.of_pair("p03", 3))


@tampers("pair_missing", STRAY)
def the_last_pair_is_dropped(c: Folder) -> None:
    c.drop(*c.of_pair("p04t", 7))


@tampers("pair_missing", STRAY)
def a_pair_is_dropped_everywhere(c: Folder) -> None:
    for cell in ("aa", "p03", "p04t"):
        c.drop(*c.of_pair(cell, 4))


@tampers("pair_missing", "fault_not_planned", STRAY)
def a_pair_is_dropped_with_what_it_left(c: Folder) -> None:
    c.drop(*c.of_pair("p03", 1))
    for event in c.all("deliveries", cell="p03"):
        event["faults"] = [row for row in event["faults"] if "/1/" not in row["run_id"]]
    for event in c.all("effects", cell="p03"):
        event["rows"] = [row for row in event["rows"] if "/1/" not in row["run_id"]]


@tampers("cell_missing")
def the_events_of_a_cell_are_dropped(c: Folder) -> None:
    c.drop(*[event for event in c.events if event.get("cell") == "p04t"])


@tampers(STRAY, "clock_impossible", "clock_stepped")
def two_pairs_change_places(c: Folder) -> None:
    first, second = c.of_pair("p04t", 1), c.of_pair("p04t", 2)
    at = c.index(first[0])
    c.drop(*first, *second)
    c.events[at:at] = [*second, *first]


@tampers("pair_repeated", STRAY)
def a_pair_comes_twice(c: Folder) -> None:
    pair = c.of_pair("p04t", 2)
    at = c.index(pair[-1]) + 1
    c.events[at:at] = copy.deepcopy(pair)


@tampers("pair_unplanned", "pair_missing", STRAY)
def a_pair_gets_another_number(c: Folder) -> None:
    for event in c.of_pair("aa", 2):
        event["pair"] = 80


@tampers(PLANNED, "answer_wrong")
def two_pairs_change_their_numbers(c: Folder) -> None:
    one, other = c.of_pair("p04t", 1), c.of_pair("p04t", 2)
    for event in one:
        event["pair"] = 2
    for event in other:
        event["pair"] = 1


for field, value in (
    ("task_id", "chains-05"),
    ("family", "direct"),
    ("block", 1),
    ("stratum", "-"),
    ("expected_calls", 1),
    ("side_effects", 5),
    ("planned_faults", {"internal": [], "external": []}),
):

    def announced(c: Folder, field: str = field, value: object = value) -> None:
        started = next(event for event in c.all("pair", cell="p03", block=0) if event["stratum"] != "-")
        started[field] = value

    add(f"another {field} is announced", announced, PLANNED, STRAY)


@tampers(PLANNED)
def another_order_is_announced(c: Folder) -> None:
    started = c.one("pair", cell="p03", pair=2)
    started["order"] = started["order"][::-1]


@tampers(PLANNED, "clock_impossible")
def the_runs_of_a_pair_change_places(c: Folder) -> None:
    started, first, one, second, other, _ = c.of_pair("p04t", 2)
    started["order"] = started["order"][::-1]
    at = c.index(first)
    c.drop(first, one, second, other)
    first["mono_s"], second["mono_s"] = second["mono_s"], first["mono_s"]
    first["wall_time"], second["wall_time"] = second["wall_time"], first["wall_time"]
    c.events[at:at] = [second, other, first, one]


@tampers(PLANNED)
def the_first_arm_is_the_same_in_every_pair(c: Folder) -> None:
    for started in c.all("pair", cell="aa"):
        pair = c.of_pair("aa", started["pair"])
        if started["order"][0] != "internal" and len(pair) == 6:
            _, first, one, second, other, _ = pair
            started["order"] = ["internal", "internal_b"]
            names = ("arm", "run_id")
            for a, b in ((first, second), (one, other)):
                for name in names:
                    a[name], b[name] = b[name], a[name]


@tampers(STRAY, "clock_impossible")
def both_runs_begin_before_one_ends(c: Folder) -> None:
    _, _first, one, second, *_ = c.of_pair("p04t", 3)
    c.drop(second)
    c.events.insert(c.index(one), second)


for kind, phase in (("start", "start"), ("end", "end")):

    def mark(c: Folder, phase: str = phase) -> None:
        c.drop(c.one("block", cell="p04t", block=1, phase=phase))

    add(f"the {kind} of a block is dropped", mark, STRAY, "conditions_missing")


@tampers(STRAY, "clock_impossible")
def a_block_ends_before_its_pairs(c: Folder) -> None:
    end = c.one("block", cell="p04t", block=1, phase="end")
    c.drop(end)
    c.events.insert(c.index(c.one("pair", cell="p04t", pair=6)), end)


@tampers(STRAY)
def a_block_begins_twice(c: Folder) -> None:
    start = c.one("block", cell="p04t", block=1, phase="start")
    c.events.insert(c.index(start), dict(start))


@tampers(STRAY)
def the_marks_of_two_blocks_change_places(c: Folder) -> None:
    for mark in c.all("block", cell="p04t"):
        mark["block"] = 1 - mark["block"]


@tampers("cell_unended", STRAY)
def the_end_of_a_cell_is_dropped(c: Folder) -> None:
    c.drop(c.one("cell_end", cell="p04t"))


@tampers("cell_broken")
def a_cell_is_called_broken(c: Folder) -> None:
    c.one("cell_end", cell="p03")["status"] = "broken"


@tampers(STRAY)
def a_complete_cell_tells_of_a_death(c: Folder) -> None:
    c.one("cell_end", cell="p03")["detail"] = "tools died"


@tampers(STRAY, "log_missing")
def a_cell_ends_before_its_logs(c: Folder) -> None:
    end = c.one("cell_end", cell="p04t")
    c.drop(end)
    c.events.insert(c.index(c.one("deliveries", cell="p04t")), end)


@tampers(STRAY, "pair_repeated")
def something_follows_the_end_of_a_cell(c: Folder) -> None:
    end = c.one("cell_end", cell="p03")
    c.events.insert(c.index(end) + 1, {"type": "pair_complete", "cell": "p03", "pair": 3})


@tampers(STRAY)
def something_precedes_the_start_of_a_cell(c: Folder) -> None:
    mark = c.one("block", cell="p04t", block=0, phase="start")
    c.drop(mark)
    c.events.insert(c.index(c.one("cell", cell="p04t")), mark)


@tampers("campaign_unsealed")
def the_seal_is_dropped(c: Folder) -> None:
    c.drop(c.one("sealed"))


@tampers(STRAY, "clock_stepped", "history_malformed", START)
def a_resumption_is_made_up(c: Folder) -> None:
    at = c.index(c.one("pair", cell="p04t", pair=5))
    c.events.insert(at, {"type": "resumed", "wall_time": "2026-01-01T00:00:00+00:00", "cut_bytes": 0})


@tampers(START, "run_id_wrong", STRAY)
def a_resumption_is_hidden(c: Folder) -> None:
    c.drop(c.one("resumed"))


@tampers(STRAY, "pair_unfinished", "pair_repeated")
def an_abandoned_pair_is_hidden(c: Folder) -> None:
    c.drop(c.one("abandon"))


@tampers(STRAY, START)
def an_interruption_is_hidden_whole(c: Folder) -> None:
    abandoned = c.one("abandon")
    gone = [e for e in c.events if e.get("run_id") in abandoned["run_ids"]]
    c.drop(*gone, abandoned, c.one("resumed"), c.one("pair", cell=abandoned["cell"], pair=abandoned["pair"]))


@tampers(STRAY, "fault_not_planned", "effect_stranger", "effect_phantom")
def a_run_that_counts_is_called_abandoned(c: Folder) -> None:
    c.one("abandon")["run_ids"].append(c.outcome(cell="p03", arm="external")["run_id"])


@tampers(STRAY, "pair_missing")
def an_unwelcome_pair_is_abandoned(c: Folder) -> None:
    pair = c.of_pair("p04t", 3)
    runs = [event["run_id"] for event in pair if event["type"] == "invoke"]
    at = c.index(pair[-1])
    c.drop(pair[-1])
    c.events.insert(at, {"type": "abandon", "cell": "p04t", "pair": 3, "run_ids": runs})


@tampers("outcome_missing", STRAY)
def an_outcome_is_dropped(c: Folder) -> None:
    c.drop(c.outcome(cell="p03", arm="external"))


@tampers(STRAY)
def an_invoke_is_dropped(c: Folder) -> None:
    c.drop(c.one("invoke", cell="p03", arm="external"))


@tampers("pair_unfinished", "pair_missing", STRAY)
def a_completion_is_dropped(c: Folder) -> None:
    c.drop(c.one("pair_complete", cell="p03", pair=2))


STARTS: tuple[tuple[str, object], ...] = (
    ("profile", "p00_baseline"),
    ("arms", ["external", "internal"]),
    ("epoch", 3),
    ("segment", 1),
    ("start_counter", {"external": 9, "internal": 9}),
    ("start_counter of nobody", {}),
    ("pids of nobody", {}),
)

for name, told in STARTS:

    def start(c: Folder, name: str = name, told: object = told) -> None:
        c.one("cell", cell="p04t")[name.split(" ")[0]] = told

    add(f"a cell starts with another {name}", start, START, "run_id_wrong", "arm_swapped")


@tampers("cell_unplanned")
def a_cell_is_slipped_in(c: Folder) -> None:
    end = c.one("cell_end", cell="aa")
    c.events.insert(c.index(end) + 1, {**c.one("cell", cell="aa"), "cell": "p07"})


@tampers(STRAY)
def two_cells_change_places(c: Folder) -> None:
    last = [event for event in c.events if event.get("cell") == "p04t"]
    at = c.index(c.one("cell", cell="aa"))
    c.drop(*last)
    c.events[at:at] = last

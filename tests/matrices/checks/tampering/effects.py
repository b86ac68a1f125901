"""The ledger: rows that are lost, doubled, altered, moved or made up."""

from __future__ import annotations

from typing import Any

from tests.matrices.checks.tampering.folder import Data, Folder, add, tampers

ANY = ("effect_lost", "effect_duplicate", "effect_altered", "effect_phantom", "effect_stranger")


def rows(c: Folder, cell: str = "p03", arm: str = "external") -> list[Data]:
    """The ledger of one arm."""
    found: list[Data] = c.all("effects", cell=cell, arm=arm)[-1]["rows"]
    return found


@tampers("effect_lost")
def an_effect_is_dropped(c: Folder) -> None:
    rows(c).pop()


@tampers("effect_duplicate")
def an_effect_comes_twice_under_its_key(c: Folder) -> None:
    rows(c).append({**rows(c)[0], "attempt": 1})


@tampers("effect_duplicate")
def an_effect_comes_twice_under_another_key(c: Folder) -> None:
    rows(c).append({**rows(c)[0], "attempt": 1, "idempotency_key": rows(c)[0]["idempotency_key"] + "/1"})


@tampers("effect_duplicate")
def an_effect_comes_twice_without_a_key(c: Folder) -> None:
    rows(c).append({**rows(c)[0], "idempotency_key": ""})


@tampers("effect_altered", "effect_duplicate")
def every_effect_comes_twice_under_fresh_keys(c: Folder) -> None:
    twice = [
        {**row, "attempt": n, "idempotency_key": f"k{n}-{i}"} for i, row in enumerate(rows(c)) for n in (0, 1)
    ]
    rows(c)[:] = twice


for name, value in (
    ("amount", 1),
    ("account", "savings"),
    ("task_id", "chains-99"),
    ("attempt", 3),
    ("idempotency_key", ""),
    ("idempotency_key of nobody", "k"),
    ("run_id", "p03/7/external/0"),
    ("run_id of nobody", "x"),
):

    def altered(c: Folder, name: str = name, value: Any = value) -> None:
        rows(c)[0][name.split(" ")[0]] = value

    add(f"an effect has another {name}", altered, *ANY)


@tampers("effect_altered", "effect_lost", "effect_stranger")
def an_amount_is_another_in_the_ledger_of_both_arms(c: Folder) -> None:
    for arm in ("internal", "external"):
        rows(c, "p04t", arm)[0]["amount"] += 10


@tampers("effect_phantom")
def an_effect_is_slipped_into_a_failed_run(c: Folder) -> None:
    failed = c.outcome(lambda one: one["outcome"] != "ok", cell="p03")["run_id"]
    rows(c).append({**rows(c)[0], "run_id": failed, "idempotency_key": f"{failed}/5", "amount": 77})


@tampers("effect_stranger")
def an_effect_is_slipped_into_an_answered_run(c: Folder) -> None:
    rows(c).append({**rows(c)[0], "amount": 77})


@tampers("effect_stranger")
def an_effect_of_a_run_of_another_cell(c: Folder) -> None:
    rows(c).append(dict(rows(c, "aa", "internal")[0]))


@tampers("effect_lost", "effect_stranger")
def the_ledgers_of_the_arms_change_places(c: Folder) -> None:
    one, other = c.all("effects", cell="p03")[-2:]
    one["rows"], other["rows"] = other["rows"], one["rows"]


@tampers("effect_stranger", "effect_lost")
def the_effects_of_an_old_run_are_replayed(c: Folder) -> None:
    for row in rows(c):
        row["run_id"] = row["run_id"][:-1] + "9"
        row["idempotency_key"] = row["idempotency_key"].replace("/external/0/", "/external/9/")


@tampers("effect_altered")
def two_effects_change_their_keys(c: Folder) -> None:
    ledger = rows(c, "aa", "internal")
    one, other = ledger[0], ledger[-1]
    one["idempotency_key"], other["idempotency_key"] = other["idempotency_key"], one["idempotency_key"]


@tampers("effect_lost")
def a_ledger_is_emptied(c: Folder) -> None:
    rows(c).clear()


@tampers("log_missing", "event_stray")
def a_ledger_is_dropped(c: Folder) -> None:
    c.drop(c.all("effects", cell="p03", arm="external")[-1])

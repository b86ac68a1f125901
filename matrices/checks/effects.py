"""The rows in an arm's ledger against those that the plan gives, run by run and both ways."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from matrices.checks.finding import Finding, FindingKind, differs
from matrices.evidence.events import EffectRow
from matrices.evidence.runs import Run
from matrices.planning.expectation import Expectation, ExpectedPair


def of_effects(
    cell: str,
    arm: str,
    rows: Iterable[EffectRow],
    runs: Mapping[int, Run],
    abandoned: Mapping[str, int],
    expected: Expectation,
) -> Iterator[Finding]:
    """Findings about the rows of one arm.

    `runs` are the arm's completed runs by pair, `abandoned` the pair of each run that an interruption cut short: such a
    run may lack rows, and has none that the whole run would not have.
    """
    planned = {pair.pair: pair for pair in expected.pairs}
    pair_of = {run.outcome.run_id: pair for pair, run in runs.items()} | dict(abandoned)
    found: dict[str, list[EffectRow]] = {run.outcome.run_id: [] for run in runs.values()}
    for row in rows:
        if row.run_id in pair_of:
            found.setdefault(row.run_id, []).append(row)
        else:
            yield Finding(
                kind="effect_stranger", cell=cell, arm=arm, detail=f"{_said(row)} of an unknown run"
            )
    for run_id, left in found.items():
        pair = planned[pair_of[run_id]]
        wanted = rows_of(pair, arm, run_id, idempotency=expected.idempotency)
        run = None if run_id in abandoned else runs[pair.pair]
        failed = not pair.runs[arm].ok if run is None else not run.ok
        for kind, detail in _compare(wanted, left, failed=failed, whole=run is not None):
            yield Finding(kind=kind, cell=cell, arm=arm, pair=pair.pair, detail=detail)


def rows_of(pair: ExpectedPair, arm: str, run_id: str, *, idempotency: bool) -> list[EffectRow]:
    """The rows that the run with that id leaves if it is as planned."""
    return [
        EffectRow(
            run_id=run_id,
            task_id=pair.task.id,
            attempt=effect.attempt,
            idempotency_key=f"{run_id}/{effect.call_index}" if idempotency else "",
            account=effect.account,
            amount=effect.amount,
        )
        for effect in pair.runs[arm].effects
    ]


def _compare(
    wanted: list[EffectRow], left: list[EffectRow], *, failed: bool, whole: bool
) -> Iterator[tuple[FindingKind, str]]:
    missing = list((Counter(wanted) - Counter(left)).elements())
    surplus = list((Counter(left) - Counter(wanted)).elements())
    planned = {_entry(row) for row in wanted}
    for alike in (_entry, _key) if whole else ():
        for row in list(surplus):
            other = next((one for one in missing if alike(one) == alike(row) != ""), None)
            if other is not None:
                missing.remove(other)
                surplus.remove(row)
                yield "effect_altered", differs("row", _said(other), _said(row))
    for row in surplus:
        if _entry(row) in planned:
            yield "effect_duplicate", f"{_said(row)}: its call has its rows already"
        else:
            yield "effect_phantom" if failed else "effect_stranger", f"{_said(row)}: no call of the run's"
    for row in missing if whole else ():
        yield "effect_lost", f"{_said(row)} is not in the ledger"


def _entry(row: EffectRow) -> tuple[str, int]:
    return row.account, row.amount


def _key(row: EffectRow) -> str:
    return row.idempotency_key


def _said(row: EffectRow) -> str:
    key = row.idempotency_key or "no key"
    return f"{row.account} {row.amount} ({key}, task {row.task_id}, attempt {row.attempt})"

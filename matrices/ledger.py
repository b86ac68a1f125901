"""The confound ledger (did both arms do the same work?) and the account of side effects."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from matrices import events as ev
from matrices.runs import Run


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """What one run did. `tools` are (name, arguments as canonical JSON) in order, refused calls included.

    `new_connections` counts attempts that had to wait for a connection to be made.
    """

    prompt_tokens: int
    completion_tokens: int
    cached_prompt_tokens: int
    turns: int
    tools: tuple[tuple[str, str], ...]
    model_attempts: int
    tool_attempts: int
    retries: int
    new_connections: int


@dataclass(frozen=True, kw_only=True, slots=True)
class PairWork:
    """One pair's entry: the work of each arm (absent without a record) and why the pair is void, if it is."""

    pair: int
    work: dict[str, Work]
    void: str | None


def work_of(run: Run) -> Work | None:
    """What the run did; None without a record."""
    record = run.record
    if record is None:
        return None
    return Work(
        prompt_tokens=record.usage.prompt_tokens,
        completion_tokens=record.usage.completion_tokens,
        cached_prompt_tokens=record.usage.cached_prompt_tokens,
        turns=record.turns,
        tools=tuple((use.name, _canonical(use.arguments_json)) for use in record.tools),
        model_attempts=sum(attempt.hop == "model" for attempt in record.attempts),
        tool_attempts=sum(attempt.hop == "tool" for attempt in record.attempts),
        retries=run.retries,
        new_connections=sum(attempt.connection == "new" for attempt in record.attempts),
    )


def _canonical(arguments_json: str) -> str:
    try:
        return json.dumps(json.loads(arguments_json), sort_keys=True, separators=(",", ":"))
    except ValueError:  # the model wrote no JSON: its text is what there is to compare
        return arguments_json


def pair_work(pair: int, runs: Mapping[str, Run]) -> PairWork:
    """The pair's entry. It is void only if both arms answered and did different work by one of these rules.

    Tool calls or their arguments differ; prompt or completion tokens differ; tokens found in the KV cache differ.
    An arm that failed did less by design of the experiment, which is a result and not a confound.
    """
    work = {arm: done for arm, run in runs.items() if (done := work_of(run)) is not None}
    void = None
    if len(runs) == 2 and len(work) == 2 and all(run.ok for run in runs.values()):
        void = _difference(*work.items())
    return PairWork(pair=pair, work=work, void=void)


def _difference(first: tuple[str, Work], second: tuple[str, Work]) -> str | None:
    (one, a), (two, b) = first, second
    if a.tools != b.tools:
        return f"tool calls differ: {one} {_calls(a)}, {two} {_calls(b)}"
    for name in ("prompt_tokens", "completion_tokens", "cached_prompt_tokens"):
        mine, theirs = getattr(a, name), getattr(b, name)
        if mine != theirs:
            return f"{name.replace('_', ' ')} differ: {one} {mine}, {two} {theirs}"
    return None


def _calls(work: Work) -> str:
    return ", ".join(f"{name}{arguments}" for name, arguments in work.tools) or "none"


@dataclass(frozen=True, kw_only=True, slots=True)
class EffectCounts:
    """The side effects of one arm of a cell, held against what its runs said.

    `recorded` rows belong to runs that count. `lost`: calls acknowledged to the model that left no row.
    `duplicate`: rows beyond the first of one call. `phantom`: calls that left a row in a run that ended without
    an answer. `stranger`: rows of runs that the history does not know. `superseded`: rows of abandoned runs, in
    no other count.
    """

    recorded: int
    lost: int
    duplicate: int
    phantom: int
    stranger: int
    superseded: int


NO_EFFECTS = EffectCounts(recorded=0, lost=0, duplicate=0, phantom=0, stranger=0, superseded=0)


def count_effects(
    rows: Iterable[ev.EffectRow],
    runs: Iterable[Run],
    *,
    superseded: Iterable[str],
    side_effect_tools: Iterable[str],
) -> EffectCounts:
    """Accounts for the rows of one arm.

    A row's call is its idempotency key; where the caller sent none, it is (run, account, amount), and a run that
    had the same entry acknowledged k times is owed k rows before one is a duplicate.
    """
    by_id = {run.outcome.run_id: run for run in runs}
    gone = frozenset(superseded)
    tools = frozenset(side_effect_tools)
    rows_of: dict[str, list[ev.EffectRow]] = {}
    strangers = dropped = 0
    for row in rows:
        if row.run_id in by_id:
            rows_of.setdefault(row.run_id, []).append(row)
        elif row.run_id in gone:
            dropped += 1
        else:
            strangers += 1
    lost = duplicate = phantom = 0
    for run_id, run in by_id.items():
        acknowledged = _acknowledged(run, tools)
        left = rows_of.get(run_id, [])
        calls = _rows_by_call(left, acknowledged)
        duplicate += len(left) - len(calls)
        entries = Counter(calls)
        lost += sum((acknowledged - entries).values())
        if not run.ok:
            phantom += len(calls)
    return EffectCounts(
        recorded=sum(map(len, rows_of.values())),
        lost=lost,
        duplicate=duplicate,
        phantom=phantom,
        stranger=strangers,
        superseded=dropped,
    )


Entry = tuple[str, int]


def _acknowledged(run: Run, tools: frozenset[str]) -> Counter[Entry]:
    """The entries that a tool told the run it had made."""
    entries: Counter[Entry] = Counter()
    for use in () if run.record is None else run.record.tools:
        if use.name in tools and not use.is_error:
            arguments = json.loads(use.arguments_json)
            entries[(arguments["account"], arguments["amount"])] += 1
    return entries


def _rows_by_call(rows: list[ev.EffectRow], acknowledged: Counter[Entry]) -> list[Entry]:
    """One entry for each call that left rows."""
    keyed = {row.idempotency_key: (row.account, row.amount) for row in rows if row.idempotency_key}
    bare = Counter((row.account, row.amount) for row in rows if not row.idempotency_key)
    calls = list(keyed.values())
    for entry, count in bare.items():
        calls += [entry] * min(count, max(1, acknowledged[entry]))
    return calls

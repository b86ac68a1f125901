"""The confound ledger (did both arms do the same work?) and the account of side effects."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass

from matrices.evidence import events as ev
from matrices.evidence.runs import Run
from matrices.planning.expectation import Expectation


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """What one run did. `tools` are (name, arguments as canonical JSON) in order, refused calls included.

    `new_connections` counts attempts that had to wait for a connection to be made. `constrained`: what the model
    wrote was held to a form.
    """

    prompt_tokens: int
    completion_tokens: int
    cached_prompt_tokens: int
    turns: int
    tools: tuple[tuple[str, str], ...]
    model_attempts: int
    model_retries: int
    tool_attempts: int
    retries: int
    new_connections: int
    constrained: bool = False


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
        model_retries=sum(attempt.hop == "model" and attempt.attempt > 0 for attempt in record.attempts),
        tool_attempts=sum(attempt.hop == "tool" for attempt in record.attempts),
        retries=run.retries,
        new_connections=sum(attempt.connection == "new" for attempt in record.attempts),
        constrained=record.constrained,
    )


def _canonical(arguments_json: str) -> str:
    try:
        return json.dumps(json.loads(arguments_json), sort_keys=True, separators=(",", ":"))
    except ValueError:  # the model wrote no JSON: its text is what there is to compare
        return arguments_json


def pair_work(pair: int, runs: Mapping[str, Run]) -> PairWork:
    """The pair's entry. It is void only if both arms answered and did different work by one of these rules.

    The one was held to a form in decoding, and the other was free. Tool calls or their arguments differ; prompt or
    completion tokens differ; tokens found in the KV cache differ, unless an attempt at the model failed: its retry
    may find what it left there. An arm that failed did less by design of the experiment, which is a result and not a
    confound.
    """
    work = {arm: done for arm, run in runs.items() if (done := work_of(run)) is not None}
    void = None
    if len(runs) == 2 and len(work) == 2 and all(run.ok for run in runs.values()):
        void = _difference(*work.items())
    return PairWork(pair=pair, work=work, void=void)


def _difference(first: tuple[str, Work], second: tuple[str, Work]) -> str | None:
    (one, a), (two, b) = first, second
    if a.constrained != b.constrained:
        held, free = (one, two) if a.constrained else (two, one)
        return f"decoding differs: {held} constrained, {free} free"
    if a.tools != b.tools:
        return f"tool calls differ: {one} {_calls(a)}, {two} {_calls(b)}"
    cached = [] if a.model_retries or b.model_retries else ["cached_prompt_tokens"]
    for name in ("prompt_tokens", "completion_tokens", *cached):
        mine, theirs = getattr(a, name), getattr(b, name)
        if mine != theirs:
            return f"{name.replace('_', ' ')} differ: {one} {mine}, {two} {theirs}"
    return None


def _calls(work: Work) -> str:
    return ", ".join(f"{name}{arguments}" for name, arguments in work.tools) or "none"


@dataclass(frozen=True, kw_only=True, slots=True)
class EffectCounts:
    """The side effects of one arm of a cell, held against the calls that the plan gives.

    `recorded` rows belong to runs that count. `lost`: calls that took effect and left no row. `duplicate`: rows beyond
    the first of one call, under whatever key. `phantom`: calls that left a row in a run that ended without an answer.
    `stranger`: rows of runs that the history does not know, or of no call of their run. `superseded`: rows of runs that
    were abandoned, or hurt by another run's fault, in no other count.
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
    runs: Mapping[int, Run],
    superseded: Container[str],
    expected: Expectation,
    arm: str,
) -> EffectCounts:
    """Accounts for the rows of one arm; `runs` are its completed runs by pair.

    A row's call is told by run, account and amount alone: a key is what the arm says, and a call that is repeated under
    another key takes effect twice. A run with k calls of the same entry is owed k rows before one is a duplicate.
    """
    rows_of: dict[str, Counter[tuple[str, int]]] = {run.outcome.run_id: Counter() for run in runs.values()}
    strangers = dropped = 0
    for row in rows:
        if row.run_id in rows_of:
            rows_of[row.run_id][row.account, row.amount] += 1
        elif row.run_id in superseded:
            dropped += 1
        else:
            strangers += 1
    lost = duplicate = phantom = 0
    for pair in expected.pairs:
        run = runs.get(pair.pair)
        if run is None:
            continue
        calls = {effect.call_index: (effect.account, effect.amount) for effect in pair.runs[arm].effects}
        owed, left = Counter(calls.values()), rows_of[run.outcome.run_id]
        lost += (owed - left).total()
        for entry, count in left.items():
            real = min(count, max(1, owed[entry]))
            duplicate += count - real
            if not run.ok:
                phantom += real
            elif owed[entry] == 0:
                strangers += 1
    return EffectCounts(
        recorded=sum(of.total() for of in rows_of.values()),
        lost=lost,
        duplicate=duplicate,
        phantom=phantom,
        stranger=strangers,
        superseded=dropped,
    )

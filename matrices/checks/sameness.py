"""What one task must give whoever runs it: the same results from the tools, as many tokens, the same answer."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from matrices.checks.finding import Finding, FindingKind, differs
from matrices.evidence.events import Outcome
from matrices.evidence.runs import Run
from treni.v1 import agent_pb2, common_pb2

Told = tuple[str, Run, str]
"""A cell, a run of it, and what it says."""


def of_sameness(
    cells: Mapping[str, Iterable[Run]],
    *,
    sequential: bool,
    alike: Collection[str],
    foreign: Collection[str] = (),
) -> Iterator[Finding]:
    """Findings about runs that say otherwise than most runs of their task; a tie is held against everyone.

    A tool gives the same result for the same call of a task: nothing that the tools read changes, those aside that are
    `foreign`, which may tell the time. A conversation with the same words in it has the same number of tokens, and
    where no other takes its place in the KV cache (`sequential`) finds as many of them there, unless an attempt at the
    model failed and left more. In the cells `alike` the same conversation, with as many tokens known, ends with the
    same answer, right or wrong: greedy decoding draws nothing. Where the user says several things, all of that holds up
    to the end of each user turn.
    """
    results: dict[Hashable, list[Told]] = defaultdict(list)
    tokens: dict[Hashable, list[Told]] = defaultdict(list)
    answers: dict[Hashable, list[Told]] = defaultdict(list)
    for cell, runs in cells.items():
        for run in runs:
            if run.record is None:
                continue
            task = run.pair.task_id
            for index, use in enumerate(run.record.tools):
                if use.name not in foreign:
                    results[task, index, use.name, use.arguments_json].append((cell, run, use.result_json))
            first_try = all(one.outcome == "ok" for one in run.attempts if one.hop == "model")
            for part in _parts(run.record, run.outcome):
                usage, end = part.usage, len(part.answers)
                said = f"{usage.prompt_tokens} in, {usage.completion_tokens} out"
                if sequential and first_try:
                    said += f", {usage.cached_prompt_tokens} known"
                tokens[task, part.words, part.turns, part.answers, first_try].append((cell, run, said))
                if cell in alike and part.answers[-1] is not None:
                    known = (usage.prompt_tokens, usage.cached_prompt_tokens)
                    before = (part.words, part.turns, part.answers[:-1], end)
                    answers[task, before, known].append((cell, run, part.answers[-1]))
    yield from _unlike("result_differs", results.values())
    yield from _unlike("tokens_differ", tokens.values())
    yield from _unlike("answer_differs", answers.values())


@dataclass(frozen=True, kw_only=True, slots=True)
class _Part:
    """A run up to the end of one user turn: the calls and results, the model's turns, and the answers so far.

    `usage` is that turn's. The last answer is None for a turn without one.
    """

    words: tuple[tuple[str, str], ...]
    turns: int
    answers: tuple[str | None, ...]
    usage: common_pb2.Usage


def _parts(record: agent_pb2.RunRecord, outcome: Outcome) -> Iterator[_Part]:
    words = tuple((use.arguments_json, use.result_json) for use in record.tools)
    answers = (*(one.answer for one in outcome.earlier), outcome.answer)
    if not record.user_turns:
        yield _Part(words=words, turns=record.turns, answers=answers, usage=record.usage)
        return
    turns = tools = 0
    for number, one in enumerate(record.user_turns, start=1):
        turns, tools = turns + one.turns, tools + one.tools
        if number <= len(answers):
            yield _Part(words=words[:tools], turns=turns, answers=answers[:number], usage=one.usage)


def _unlike(kind: FindingKind, groups: Iterable[list[Told]]) -> Iterator[Finding]:
    for group in groups:
        (usual, most), *others = Counter(value for _, _, value in group).most_common(2)
        tie = bool(others) and others[0][1] == most
        for cell, run, value in group:
            if value != usual or tie:
                where = "as often as not another" if tie else "most runs of the task have another"
                detail = f"task {run.pair.task_id}: {where}: {differs('value', usual, value)}"
                yield Finding(kind=kind, cell=cell, arm=run.arm, pair=run.pair.pair, detail=detail)

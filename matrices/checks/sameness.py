"""What one task must give whoever runs it: the same results from the tools, as many tokens, the same answer."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping

from matrices.checks.finding import Finding, FindingKind, differs
from matrices.evidence.runs import Run

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
    `foreign`, which may tell the time. A conversation with
    the same words in it has the same number of tokens, and where no other takes its place in the KV cache
    (`sequential`) finds as many of them there, unless an attempt at the model failed and left more. In the cells
    `alike` the same conversation, with as many tokens known, ends with the same answer, right or wrong: greedy decoding
    draws nothing.
    """
    results: dict[Hashable, list[Told]] = defaultdict(list)
    tokens: dict[Hashable, list[Told]] = defaultdict(list)
    answers: dict[Hashable, list[Told]] = defaultdict(list)
    for cell, runs in cells.items():
        for run in runs:
            if run.record is None:
                continue
            task, uses = run.pair.task_id, run.record.tools
            for index, use in enumerate(uses):
                if use.name not in foreign:
                    results[task, index, use.name, use.arguments_json].append((cell, run, use.result_json))
            words = tuple((use.arguments_json, use.result_json) for use in uses)
            usage = run.record.usage
            said = f"{usage.prompt_tokens} in, {usage.completion_tokens} out"
            first_try = all(one.outcome == "ok" for one in run.attempts if one.hop == "model")
            if sequential and first_try:
                said += f", {usage.cached_prompt_tokens} known"
            key = (task, words, run.record.turns, run.outcome.answer, first_try)
            tokens[key].append((cell, run, said))
            if cell in alike and run.outcome.answer is not None:
                told = (task, words, run.record.turns, usage.prompt_tokens, usage.cached_prompt_tokens)
                answers[told].append((cell, run, run.outcome.answer))
    yield from _unlike("result_differs", results.values())
    yield from _unlike("tokens_differ", tokens.values())
    yield from _unlike("answer_differs", answers.values())


def _unlike(kind: FindingKind, groups: Iterable[list[Told]]) -> Iterator[Finding]:
    for group in groups:
        (usual, most), *others = Counter(value for _, _, value in group).most_common(2)
        tie = bool(others) and others[0][1] == most
        for cell, run, value in group:
            if value != usual or tie:
                where = "as often as not another" if tie else "most runs of the task have another"
                detail = f"task {run.pair.task_id}: {where}: {differs('value', usual, value)}"
                yield Finding(kind=kind, cell=cell, arm=run.arm, pair=run.pair.pair, detail=detail)

"""What each of several user turns took, and how much of the conversation was in the KV cache by then."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from matrices.report.document import Part
from matrices.report.figures import ArmFigures, CellFigures, Figures
from matrices.report.formats import ms
from matrices.report.sections.by_arm import by_arm


def parts(figures: Figures, cell: CellFigures) -> Iterator[Part]:
    """A table with two rows for each user turn; nothing where runs have a single one."""
    turns = max(len(arm.user_turns) for arm in cell.arms)
    rows: list[tuple[str, Sequence[str]]] = []
    for turn in range(turns):
        rows.append((f"answer {turn + 1}, median ms", [_time(arm, turn) for arm in cell.arms]))
        rows.append((f"answer {turn + 1}, prompt tokens known", [_known(arm, turn) for arm in cell.arms]))
    if rows:
        yield by_arm(cell, "user turns, each from the answer before", rows)


def _time(arm: ArmFigures, turn: int) -> str:
    if turn >= len(arm.user_turns):
        return "-"
    one = arm.user_turns[turn]
    return f"{ms(one.latency_p50_s)} ({one.answered} runs)"


def _known(arm: ArmFigures, turn: int) -> str:
    if turn >= len(arm.user_turns) or not arm.user_turns[turn].prompt_tokens:
        return "-"
    one = arm.user_turns[turn]
    return f"{one.cached_prompt_tokens} of {one.prompt_tokens}"

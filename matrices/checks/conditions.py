"""The machine's conditions over a cell's blocks: which blocks are contaminated, and what was not recorded."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TypeGuard

from matrices.checks.finding import Finding
from matrices.checks.tolerances import BUSY, MOST_BUSY
from matrices.evidence.history import CellState

SIGNED = frozenset({"clock_offset_s"})
"""Conditions that can be under zero: another host's clock may be behind ours."""

ROUNDED = 1.0005
"""What a share of all processor time can be at most: it is rounded to four places."""


def contaminated_blocks(cell: CellState, limits: Mapping[str, float]) -> dict[int, str]:
    """The blocks over which a condition exceeded its limit, with the condition in words.

    Only a block's end speaks of the block; its start is a reading over next to no time. A block whose end an
    interruption swallowed, so that its conditions are not known, is contaminated too.
    """
    found: dict[int, str] = {}
    if len(cell.starts) > 1:
        found = {
            block: f"{', '.join(names)} not recorded" for block, names in _unrecorded(cell, limits).items()
        }
    for block, marks in sorted(cell.blocks.items()):
        for mark in (mark for mark in marks if mark.phase == "end"):
            for name, limit in limits.items():
                value = mark.conditions.get(name)
                if value is not None and value > limit:
                    found.setdefault(block, f"{name} {value:g} > {limit:g}")
    return found


def slowness(cell: CellState | None) -> dict[int, float]:
    """How many times longer than elsewhere anything may take in a block, by what others left of the machine.

    Blocks in which they left no less than limits were measured with, up to `BUSY` taken, are not there. One that is
    there is a contaminated one.
    """
    found: dict[int, float] = {}
    for block, marks in () if cell is None else cell.blocks.items():
        for mark in marks:
            shares = [mark.conditions.get(name) for name in ("other_cpu_fraction", "steal_fraction")]
            taken = min(sum(share for share in shares if _is_number(share)), MOST_BUSY)
            if mark.phase == "end" and taken > BUSY:
                found[block] = max(found.get(block, 1.0), 1 / (1 - taken))
    return found


def of_conditions(cell: CellState, limits: Mapping[str, float]) -> Iterator[Finding]:
    """Findings about conditions that are missing, or that no machine can have."""
    if cell.ended is not None and len(cell.starts) == 1:
        for block, names in _unrecorded(cell, limits).items():
            detail = f"block {block}: {', '.join(names)} not recorded"
            yield Finding(kind="conditions_missing", cell=cell.cell, detail=detail)
    for block, marks in sorted(cell.blocks.items()):
        for mark in marks:
            for name, value in mark.conditions.items():
                most = ROUNDED if name.endswith("_fraction") else math.inf
                values = list(value.values()) if isinstance(value, dict) else [value]
                least = -math.inf if name in SIGNED else 0.0
                if not all(_is_number(one) and least <= one < most and one > -math.inf for one in values):
                    detail = f"block {block}, {mark.phase}: {name} {value!r}"
                    yield Finding(kind="conditions_impossible", cell=cell.cell, detail=detail)
    yield from _of_clocks(cell)


def _of_clocks(cell: CellState) -> Iterator[Finding]:
    """Findings about comparisons of clocks that nobody can have made."""
    ended = {} if cell.ended is None else cell.ended.clocks
    for clocks in (*(start.clocks for start in cell.starts), ended):
        for role, clock in clocks.items():
            offsets = (clock.offset_s, clock.steady_offset_s, clock.at_s)
            if not all(map(math.isfinite, offsets)) or not 0 <= clock.error_s < math.inf:
                detail = f"the clock of {role}: {clock}"
                yield Finding(kind="conditions_impossible", cell=cell.cell, detail=detail)


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _unrecorded(cell: CellState, limits: Mapping[str, float]) -> dict[int, list[str]]:
    """The conditions that each block with a completed pair should have told at its end and did not."""
    missing = {}
    for block in sorted({done.started.block for done in cell.completed.values()}):
        ends = [mark for mark in cell.blocks.get(block, ()) if mark.phase == "end"]
        known: set[str] = set().union(*(mark.conditions for mark in ends))
        if names := [name for name in limits if name not in known]:
            missing[block] = names
    return missing

"""The dialogue generator: a pure function of a seed, an index and the parts to draw from.

`generate(seed, index, split)` is one dialogue. Splits: "train" (everything from the training parts), "values"
(held-out names, words and numbers), "unseen_tools" (also held-out tool vocabulary, only families with made-up
tools), "phrasings" (held-out values, and every phrase from a held-out template).
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from runtime_svc.training import (
    calculations,
    chains,
    cities,
    direct,
    notes_and_ledger,
    random_tools,
    real_tools,
    repairs,
)
from runtime_svc.training.dialogue import Dialogue, tool_name
from runtime_svc.training.random_tools import RandomTool
from runtime_svc.training.real_tools import Single
from runtime_svc.training.vocabulary import Draw, Part

MAX_TOOLS = 6

SPLITS: dict[str, Part] = {
    "train": Part(),
    "values": Part(values=True),
    "unseen_tools": Part(values=True, tools=True),
    "phrasings": Part(values=True, phrasings=True),
}

NO_TOOL = "None of my tools can do that."
"""The final answer when a tool is needed and no offered one fits."""

_REAL = tuple(real_tools.SPECS)

_REAL_KINDS: tuple[tuple[str, float, Callable[[Draw], Single]], ...] = (
    ("calculator", 1.0, calculations.calculator),
    ("facts_attribute", 0.45, cities.facts_attribute),
    ("facts_list", 0.25, cities.facts_list),
    ("facts_count", 0.15, cities.facts_count),
    ("facts_extreme", 0.2, cities.facts_extreme),
    ("facts_total", 0.15, cities.facts_total),
    ("notes", 0.6, notes_and_ledger.notes),
    ("notes_many", 0.25, notes_and_ledger.notes_many),
    ("ledger", 0.7, notes_and_ledger.ledger),
)
"""Every kind of single call of a real tool, with its weight."""


def generate(seed: int, index: int, split: str = "train") -> Dialogue:
    """Dialogue number `index` of `seed`, from a split; the same arguments give the same dialogue."""
    rng = random.Random(f"{split}/{seed}/{index}")
    draw = Draw(rng=rng, part=SPLITS[split])
    families = _UNSEEN if split == "unseen_tools" else FAMILIES
    name = rng.choices(tuple(families), weights=[weight for weight, _ in families.values()])[0]
    asked = families[name][1](draw)
    tools = tools_for(draw, asked)
    prompt, steps, answer = asked.told
    return Dialogue(
        family=name, kind=asked.kind, tools=tuple(tools), prompt=prompt, steps=steps, answer=answer
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """One exchange with what it says about the offered tools.

    `made_up` are the made-up tools that it needs (the real ones are named in its steps); `absent` is the tool that it
    would need and must not have.
    """

    kind: str
    told: Single
    made_up: tuple[RandomTool, ...] = ()
    absent: RandomTool | str | None = None

    @property
    def real(self) -> tuple[str, ...]:
        """The real tools that it needs."""
        called = {step.name for step in self.told[1]}
        return tuple(name for name in _REAL if name in called)


def _direct(draw: Draw) -> Asked:
    kind = draw.pick(tuple(direct.KINDS))
    prompt, answer = direct.KINDS[kind](draw)
    return Asked(kind=kind, told=(prompt, (), answer))


def _real_single(draw: Draw) -> Asked:
    index = draw.rng.choices(range(len(_REAL_KINDS)), weights=[weight for _, weight, _ in _REAL_KINDS])[0]
    kind, _, make = _REAL_KINDS[index]
    return Asked(kind=kind, told=make(draw))


def _random_single(draw: Draw) -> Asked:
    used = random_tools.random_tool(draw)
    told = random_tools.single(draw, used)
    return Asked(kind="lookup" if used.key else "action", told=told, made_up=(used,))


def _real_chain(draw: Draw) -> Asked:
    told = chains.real_chain(draw)
    return Asked(kind=f"{len(told[1])} calls", told=told)


def _random_chain(draw: Draw) -> Asked:
    told, used = chains.random_chain(draw)
    return Asked(kind=f"{len(told[1])} calls", told=told, made_up=tuple(used))


def _repair(draw: Draw) -> Asked:
    kinds: tuple[tuple[str, Callable[[Draw], Single]], ...] = (
        ("ledger", repairs.ledger_repair),
        ("column", repairs.column_repair if draw.chance(0.7) else repairs.column_plain),
        ("failure", repairs.real_failure if draw.chance(0.7) else repairs.division_by_zero),
    )
    kind, make = draw.pick(kinds)
    return Asked(kind=kind, told=make(draw))


def _random_repair(draw: Draw) -> Asked:
    told, used = repairs.random_repair(draw)
    return Asked(kind="repair" if len(told[1]) == 2 else "failure", told=told, made_up=tuple(used))


def _no_fit(draw: Draw) -> Asked:
    """A request for a tool that is not offered; near misses are."""
    if not draw.chance(0.5):
        return _random_no_fit(draw)
    index = draw.below(0, len(_REAL_KINDS) - 1)
    _, _, make = _REAL_KINDS[index]
    prompt, steps, _ = make(draw)
    return Asked(kind="real tool", told=(prompt, (), NO_TOOL), absent=steps[0].name)


def _random_no_fit(draw: Draw) -> Asked:
    used = random_tools.random_tool(draw)
    prompt, _, _ = random_tools.single(draw, used)
    return Asked(kind="made-up tool", told=(prompt, (), NO_TOOL), absent=used)


def tools_for(draw: Draw, asked: Asked) -> list[dict[str, Any]]:
    """What is offered with one exchange."""
    if asked.absent is not None:
        return _without(draw, asked.absent)
    if asked.told[1] or not draw.chance(0.3):
        return _offered(draw, asked.real, list(asked.made_up))
    tools = [real_tools.SPECS[name] for name in _REAL]
    draw.rng.shuffle(tools)
    return tools


def _offered(draw: Draw, real: tuple[str, ...], made_up: list[RandomTool]) -> list[dict[str, Any]]:
    """The needed tools and some distractors, at most MAX_TOOLS in all, in random order."""
    tools = [real_tools.SPECS[name] for name in real] + [used.spec for used in made_up]
    if not made_up and draw.chance(0.35):
        tools += [real_tools.SPECS[name] for name in _REAL if name not in real]
    else:
        spare = MAX_TOOLS - len(tools)
        wanted = min(spare, draw.pick((0, 0, 1, 1, 2, 2, 3, 3, 4, 5, 6)))
        for _ in range(wanted):
            names = {tool_name(spec) for spec in tools}
            other = distractor(draw, made_up)
            if tool_name(other) not in names:
                tools.append(other)
    draw.rng.shuffle(tools)
    return tools


def distractor(draw: Draw, made_up: list[RandomTool]) -> dict[str, Any]:
    """A tool to offer beside the needed ones, often one like a tool in `made_up`, never one that does the same."""
    if draw.chance(0.3):
        return real_tools.SPECS[draw.pick(_REAL)]
    while True:
        other = random_tools.near(draw, draw.pick(made_up)) if made_up and draw.chance(0.4) else None
        if other is None:
            other = random_tools.random_tool(draw)
        if not any(same_purpose(other, used) for used in made_up):
            return other.spec


def same_purpose(one: RandomTool, other: RandomTool) -> bool:
    """Whether a request for one could as well be meant for the other."""
    return (one.noun, one.verb, one.key) == (other.noun, other.verb, other.key)


def _without(draw: Draw, absent: RandomTool | str) -> list[dict[str, Any]]:
    wanted, near = (absent, []) if isinstance(absent, str) else (absent.name, [absent])
    tools: list[dict[str, Any]] = []
    for _ in range(draw.pick((0, 1, 2, 3, 4, 4, 5, 6))):
        other = distractor(draw, near)
        if tool_name(other) != wanted and tool_name(other) not in {tool_name(spec) for spec in tools}:
            tools.append(other)
    return tools


_Make = Callable[[Draw], Asked]

FAMILIES: dict[str, tuple[float, _Make]] = {
    "direct": (22, _direct),
    "real_single": (20, _real_single),
    "random_single": (22, _random_single),
    "real_chain": (12, _real_chain),
    "random_chain": (10, _random_chain),
    "real_repair": (4, _repair),
    "random_repair": (4, _random_repair),
    "no_fit": (6, _no_fit),
}
_UNSEEN: dict[str, tuple[float, _Make]] = {
    "random_single": (60, _random_single),
    "random_chain": (20, _random_chain),
    "random_repair": (8, _random_repair),
    "no_fit": (12, _random_no_fit),
}

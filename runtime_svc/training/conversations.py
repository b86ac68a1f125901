"""What training reads: one to three exchanges under the same offered tools, from the training parts.

A prompt is mostly tools. Asking several things of the same tools gives a training step two to three times as many of
the assistant's tokens to learn from, and what it learns (find the tool that was meant, copy its names) is the same.
The families come in other shares than in `generator`'s dialogues, which accuracy is measured on: what is hard, made-up
tools among others of like names, comes more often.
"""

from __future__ import annotations

import random

from runtime_svc.training import real_tools
from runtime_svc.training.dialogue import Conversation, tool_name
from runtime_svc.training.generator import FAMILIES, MAX_TOOLS, Asked, distractor, same_purpose, tools_for
from runtime_svc.training.random_tools import RandomTool
from runtime_svc.training.vocabulary import Draw, Part

_SHARES = {
    "direct": 18,
    "real_single": 10,
    "random_single": 30,
    "real_chain": 7,
    "random_chain": 13,
    "real_repair": 3,
    "random_repair": 7,
    "no_fit": 12,
}
_EXCHANGES = (1, 1, 2, 2, 3, 3)
_DISTRACTORS = (0, 1, 1, 2, 2, 3, 4)


def conversation(seed: int, index: int) -> Conversation:
    """Conversation number `index` of `seed`; the same arguments give the same one."""
    rng = random.Random(f"conversation/{seed}/{index}")
    draw = Draw(rng=rng, part=Part(openers=True))
    names = rng.choices(tuple(_SHARES), weights=tuple(_SHARES.values()), k=draw.pick(_EXCHANGES))
    asked: list[Asked] = []
    for name in names:
        one = FAMILIES[name][1](draw)
        if not asked or _agree([*asked, one]):
            asked.append(one)
    tools = tools_for(draw, asked[0]) if len(asked) == 1 else _tools_for_all(draw, asked)
    return Conversation(tools=tuple(tools), exchanges=tuple(one.told for one in asked))


def _agree(asked: list[Asked]) -> bool:
    """Whether one set of tools can serve them all: not too many, none twice, none that another must not have."""
    made_up = _made_up(asked)
    real = _real(asked)
    absent = [one.absent for one in asked if one.absent is not None]
    apart = made_up + [one for one in absent if isinstance(one, RandomTool)]
    return (
        len(real) + len(made_up) <= MAX_TOOLS
        and len({used.name for used in apart}) == len(apart)
        and not any(same_purpose(one, other) for at, one in enumerate(apart) for other in apart[:at])
        and not set(real) & {one for one in absent if isinstance(one, str)}
    )


def _tools_for_all(draw: Draw, asked: list[Asked]) -> list[dict[str, object]]:
    made_up = _made_up(asked)
    absent = [one.absent for one in asked if one.absent is not None]
    near = made_up + [one for one in absent if isinstance(one, RandomTool)]
    tools = [real_tools.SPECS[name] for name in _real(asked)] + [used.spec for used in made_up]
    taken = {tool_name(spec) for spec in tools}
    taken |= {one if isinstance(one, str) else one.name for one in absent}
    for _ in range(min(draw.pick(_DISTRACTORS), MAX_TOOLS - len(tools))):
        other = distractor(draw, near)
        if tool_name(other) not in taken:
            taken.add(tool_name(other))
            tools.append(other)
    draw.rng.shuffle(tools)
    return tools


def _made_up(asked: list[Asked]) -> list[RandomTool]:
    return [used for one in asked for used in one.made_up]


def _real(asked: list[Asked]) -> list[str]:
    return sorted({name for one in asked for name in one.real})

"""Writes the bundled suites: held-out values, the real tools' data, expected answers from the real tools' results.

`python -m matrices.spec.make_suites` makes a pool of candidates for every place in a suite, plays each against
the shipped checkpoint with the real tools, prints the pool's accuracy, and takes for each place the first
candidate that the model gets right (suites/README.md says so). What is right comes from the tools and the
task's author, never from the model.
"""

from __future__ import annotations

import json
import random
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from matrices.spec.session_makers import SESSIONS
from matrices.spec.suite_makers import MAKERS, Made, RealTools
from runtime_svc.engine import Engine
from runtime_svc.training import direct, real_tools
from runtime_svc.training.dialogue import same_arguments
from runtime_svc.training.evaluate import CHECKPOINT
from runtime_svc.training.play import play_all
from runtime_svc.training.real_tools import CALCULATOR, FACTS, LEDGER, NOTES
from runtime_svc.training.vocabulary import Draw, Part
from tools_svc.protocol import ToolsConfig
from tools_svc.registry import build_registry
from treni import entry
from treni.storage import write_whole

FOLDER = Path(__file__).parents[1] / "suites"
CANDIDATES = 4
SEED = 7
TOOLS = (CALCULATOR, FACTS, NOTES, LEDGER)
_LONGEST_ANSWER_WORDS = 22


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """What the user says, and what is right then; `refused` says of each call whether its tool refuses it."""

    prompt: str
    calls: tuple[tuple[str, dict[str, Any]], ...]
    refused: tuple[bool, ...]
    answer: str

    @property
    def effects(self) -> int:
        """How many of the calls change state."""
        return sum(
            name == LEDGER and not refused
            for (name, _), refused in zip(self.calls, self.refused, strict=True)
        )

    def as_given(self) -> dict[str, Any]:
        """The part of a suite's line that says it."""
        calls = [
            {"name": name, "arguments": arguments, **({"refused": True} if refused else {})}
            for (name, arguments), refused in zip(self.calls, self.refused, strict=True)
        ]
        return {"prompt": self.prompt, "expect": {"answer": self.answer, "calls": calls}}


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """A task that might stand in a suite: one thing that the user says, or several in one conversation."""

    family: str
    tools: tuple[str, ...]
    turns: tuple[Asked, ...]

    @property
    def prompts(self) -> tuple[str, ...]:
        """All that the user says, in order."""
        return tuple(turn.prompt for turn in self.turns)

    def as_line(self, task_id: str, run: int) -> str:
        """The task as a line of a suite."""
        first, *others = (turn.as_given() for turn in self.turns)
        task = {
            "id": task_id,
            "family": self.family,
            "run": run,
            "prompt": first["prompt"],
            "tools": list(self.tools),
            "expect": first["expect"],
            "side_effects": sum(turn.effects for turn in self.turns),
            **({"follow_ups": others} if others else {}),
        }
        return json.dumps(task, ensure_ascii=False)


def candidate(draw: Draw, tools: RealTools, family: str) -> Candidate:
    """A task of a family ("direct/KIND", or a key of MAKERS or SESSIONS) over the real data, with all four tools."""
    offered = list(TOOLS)
    draw.rng.shuffle(offered)
    while True:
        made = _made(draw, tools, family)
        for step in (step for _, steps, _ in made for step in steps):  # what was worked out is the tools' own
            if step.name == CALCULATOR and tools.result(step) != {"value": step.result["value"]}:
                raise AssertionError(f"{step} is not what the calculator answers: {tools.result(step)}")
        if all(len(answer.split()) <= _LONGEST_ANSWER_WORDS for _, _, answer in made):
            turns = tuple(
                Asked(
                    prompt=prompt,
                    calls=tuple((step.name, step.arguments) for step in steps),
                    refused=tuple("error" in tools.result(step) for step in steps),
                    answer=answer,
                )
                for prompt, steps, answer in made
            )
            return Candidate(family=family, tools=tuple(offered), turns=turns)


def _made(draw: Draw, tools: RealTools, family: str) -> tuple[Made, ...]:
    if family in SESSIONS:
        return SESSIONS[family](draw, tools)
    if family in MAKERS:
        return (MAKERS[family](draw, tools),)
    prompt, answer = direct.KINDS[family.removeprefix("direct/")](draw)
    return ((prompt, [], answer),)


def is_right(engine: Engine, tools: RealTools, task: Candidate) -> bool:
    """Whether the model makes exactly the calls and gives exactly the answers."""
    offered = [real_tools.SPECS[name] for name in task.tools]
    prompts = task.prompts
    played = play_all(engine, tools=offered, prompts=prompts, respond=tools.respond, key="\n".join(prompts))
    return all(
        done.answer.strip() == turn.answer
        and [name for name, _ in done.calls] == [name for name, _ in turn.calls]
        and all(same_arguments(a, b) for (_, a), (_, b) in zip(done.calls, turn.calls, strict=True))
        for done, turn in zip(played, task.turns, strict=True)
    )


def core(rng: random.Random) -> list[list[str]]:
    """Families of the core suite: in each run one tool, rotating, at a place that varies."""
    kinds = list(direct.KINDS) * 2
    rng.shuffle(kinds)
    runs = []
    for run in range(12):
        families = [f"direct/{kind}" for kind in kinds[run * 3 : run * 3 + 3]]
        families.insert((run + run // 4) % 4, TOOLS[run % 4])
        runs.append(families)
    return runs


def tool_only(rng: random.Random) -> list[list[str]]:
    """Families of the tool-only suite: each run has each tool once."""
    return [rng.sample(TOOLS, 4) for _ in range(12)]


def chained(rng: random.Random) -> list[list[str]]:
    """Families of the chains suite: each run has two chains and two of the other kinds."""
    others = ["two_entries", "ledger_repair", "column_repair", "chain"]
    return [rng.sample(["chain", "chain", *rng.sample(others, 2)], 4) for _ in range(6)]


def sessions(rng: random.Random) -> list[list[str]]:
    """Families of the sessions suite: each run has one of each kind."""
    return [rng.sample(list(SESSIONS), len(SESSIONS)) for _ in range(6)]


SUITES = {"core": core, "tool_only": tool_only, "chains": chained, "sessions": sessions}


@entry.command()
@click.option("--out", type=click.Path(path_type=Path), default=FOLDER, help="Where the suites are written.")
@click.option(
    "--checkpoint", type=click.Path(path_type=Path), default=CHECKPOINT, help="The model that plays."
)
@click.option("--seed", type=entry.WholeRange(), default=SEED, show_default=True, help="Draws the tasks.")
def main(out: Path, checkpoint: Path, seed: int) -> None:
    """Write the bundled suites, each task one that the model gets right."""
    engine = Engine.load(checkpoint, backend="numpy")
    with (
        tempfile.TemporaryDirectory() as folder,
        build_registry(ToolsConfig(ledger_path=Path(folder) / "ledger.sqlite")) as registry,
    ):
        for name in SUITES:
            _write(name, engine, RealTools(registry), out, seed)


def _write(name: str, engine: Engine, tools: RealTools, out: Path, seed: int) -> None:
    rng = random.Random(f"{name}/{seed}")
    draw = Draw(rng=rng, part=Part(values=True))
    pool: Counter[str] = Counter()
    right: Counter[str] = Counter()
    prompts: set[tuple[str, ...]] = set()
    lines: list[str] = []
    for run, families in enumerate(SUITES[name](rng)):
        for family in families:
            chosen = None
            while chosen is None:
                for _ in range(CANDIDATES):
                    task = candidate(draw, tools, family)
                    if task.prompts in prompts:
                        continue
                    pool[family] += 1
                    good = is_right(engine, tools, task)
                    right[family] += good
                    if good and chosen is None:
                        chosen = task
            prompts.add(chosen.prompts)
            lines.append(chosen.as_line(f"{name}-{len(lines):02d}", run))
        entry.note(f"{name}: run {run + 1}")
    write_whole(out / f"{name}.jsonl", ("\n".join(lines) + "\n").encode())
    print(
        f"{name}: {len(lines)} tasks; the model is right on {sum(right.values())} of {sum(pool.values())} candidates"
    )
    for family in sorted(pool):
        if right[family] < pool[family]:
            print(f"  {family}: {right[family]} of {pool[family]}")


if __name__ == "__main__":
    main(prog_name="python -m matrices.spec.make_suites")

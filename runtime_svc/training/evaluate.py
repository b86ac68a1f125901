"""Accuracy of a checkpoint on freshly generated dialogues, played against the NumPy engine. Needs no torch.

`python -m runtime_svc.training.evaluate --seed N` prints shares by split and by family and compares them with
the targets; the exit code is 1 when one is missed.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from treni import entry

CHECKPOINT = Path(__file__).parents[1] / "checkpoints" / "treni-tiny"
_PROGRESS_EVERY = 50


@dataclass(frozen=True, kw_only=True, slots=True)
class Judged:
    """One dialogue that was played. `arguments` is None when no call is right."""

    split: str
    index: int
    family: str
    kind: str
    tools: bool
    arguments: bool | None
    answer: bool
    miss: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """The least shares that a split must reach."""

    tools: float
    arguments: float
    answers: float
    by_family: bool = False


TARGETS = {
    "values": Target(tools=0.995, arguments=0.99, answers=0.99),
    "unseen_tools": Target(tools=0.97, arguments=0.97, answers=0.97),
    "phrasings": Target(tools=0.90, arguments=0.90, answers=0.90, by_family=True),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Shares:
    """Accuracy over some dialogues: right tools in the right order (or none), every argument, the final answer."""

    dialogues: int
    tools: float
    arguments: float
    answers: float

    def reach(self, target: Target) -> bool:
        """Whether every share is at least the target's."""
        return (
            self.tools >= target.tools
            and self.arguments >= target.arguments
            and self.answers >= target.answers
        )


def shares(judged: Iterable[Judged]) -> Shares:
    """The shares of right tools and answers over all, of right arguments over the dialogues that have calls."""
    rows = list(judged)
    called = [row.arguments for row in rows if row.arguments is not None]
    return Shares(
        dialogues=len(rows),
        tools=_share([row.tools for row in rows]),
        arguments=_share(called),
        answers=_share([row.answer for row in rows]),
    )


def _share(right: list[bool]) -> float:
    """1.0 of nothing: what is not asked for is not missed."""
    return sum(right) / len(right) if right else 1.0


_ENGINE: object = None


def _load(directory: str) -> None:
    global _ENGINE
    from runtime_svc.engine import Engine

    _ENGINE = Engine.load(directory, backend="numpy")


def judge(work: tuple[int, int, str]) -> Judged:
    """Plays dialogue (seed, index, split) with this process's engine."""
    from runtime_svc.engine import Engine
    from runtime_svc.training.dialogue import as_json, same_arguments
    from runtime_svc.training.generator import generate
    from runtime_svc.training.play import play

    seed, index, split = work
    dialogue = generate(seed, index, split)
    assert isinstance(_ENGINE, Engine)
    played = play(
        _ENGINE,
        tools=list(dialogue.tools),
        prompt=dialogue.prompt,
        respond=lambda name, arguments: as_json(dialogue.respond(name, json.loads(arguments))),
        key=f"{split}/{index}",
    )
    right_tools = [step.name for step in dialogue.steps] == [name for name, _ in played.calls]
    right_arguments = right_tools and all(
        same_arguments(step.arguments, given)
        for step, (_, given) in zip(dialogue.steps, played.calls, strict=True)
    )
    right_answer = played.answer.strip() == dialogue.answer
    miss = ""
    if not (right_tools and right_arguments and right_answer):
        wanted = [(step.name, step.arguments) for step in dialogue.steps]
        miss = f"{dialogue.prompt!r}: right {wanted} {dialogue.answer!r}; got {list(played.calls)} {played.answer!r}"
    return Judged(
        split=split,
        index=index,
        family=dialogue.family,
        kind=dialogue.kind,
        tools=right_tools,
        arguments=right_arguments if dialogue.steps else None,
        answer=right_answer,
        miss=miss,
    )


def evaluate(directory: Path, *, seed: int, counts: dict[str, int], processes: int = 2) -> Iterator[Judged]:
    """Plays that many dialogues of each split, in order, over some processes."""
    work = [(seed, index, split) for split, count in counts.items() for index in range(count)]
    if processes == 1:
        _load(str(directory))
        yield from map(judge, work)
        return
    context = multiprocessing.get_context("spawn")
    with context.Pool(processes, initializer=_load, initargs=(str(directory),)) as pool:
        yield from pool.imap(judge, work, chunksize=8)


_COUNT = entry.WholeRange(1, 10**6)


@entry.command(help=__doc__)
@click.option(
    "--checkpoint",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    metavar="DIR",
    default=CHECKPOINT,
    help="A Hugging Face directory; default: the bundled model.",
)
@click.option(
    "--seed", type=entry.WholeRange(0, 2**32 - 1), default=1, show_default=True, help="Of the dialogues."
)
@click.option(
    "--dialogues",
    type=_COUNT,
    default=2000,
    show_default=True,
    help="Of the values split; half as many of the others.",
)
@click.option(
    "--processes", type=_COUNT, default=2, show_default=True, help="Engines that play side by side."
)
@click.option(
    "--misses",
    type=entry.WholeRange(0, 10**6),
    default=10,
    show_default=True,
    help="How many wrong dialogues of a split to show.",
)
def main(*, checkpoint: Path, seed: int, dialogues: int, processes: int, misses: int) -> int:
    """Plays the dialogues and prints the tables; the status is 1 when a target is missed."""
    # One thread a process: the matrices are small and the processes share the cores.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    half = max(1, dialogues // 2)
    counts = {"values": dialogues, "unseen_tools": half, "phrasings": half}
    done: dict[str, list[Judged]] = defaultdict(list)
    played = evaluate(checkpoint, seed=seed, counts=counts, processes=processes)
    for number, row in enumerate(played, start=1):
        done[row.split].append(row)
        if number % _PROGRESS_EVERY == 0:
            print(f"{number}/{sum(counts.values())} dialogues", file=sys.stderr, flush=True)
    return report(done, misses=misses)


def report(done: dict[str, list[Judged]], *, misses: int) -> int:
    """Prints the tables; 1 when a target is missed."""
    missed = 0
    for split, rows in done.items():
        target = TARGETS[split]
        groups = {"all": rows} | {
            f: [r for r in rows if r.family == f] for f in sorted({r.family for r in rows})
        }
        print(f"\n{split}: targets tools {target.tools:.3f}, arguments {target.arguments:.3f}, "
              f"answers {target.answers:.3f}{' in every family' if target.by_family else ''}")  # fmt: skip
        print(f"  {'family':<16}{'dialogues':>10}{'tools':>9}{'arguments':>11}{'answers':>9}")
        for name, group in groups.items():
            got = shares(group)
            binding = name == "all" or target.by_family
            verdict = "" if not binding else "  ok" if got.reach(target) else "  MISSED"
            missed += verdict == "  MISSED"
            arguments = f"{got.arguments:.4f}" if any(row.arguments is not None for row in group) else "-"
            print(
                f"  {name:<16}{got.dialogues:>10}{got.tools:>9.4f}{arguments:>11}{got.answers:>9.4f}{verdict}"
            )
        for row in [r for r in rows if r.miss][:misses]:
            print(f"    {row.family}/{row.kind} #{row.index} {row.miss}", file=sys.stderr)
    print(json.dumps({split: asdict(shares(rows)) for split, rows in done.items()}))
    return 1 if missed else 0


if __name__ == "__main__":
    main(prog_name="python -m runtime_svc.training.evaluate")

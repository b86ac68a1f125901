"""How often the semantic route names the right tool, and how well its probability says so. Needs no torch.

`python -m runtime_svc.training.evaluate_route --encoder DIR` prints top-1 accuracy, the accuracy of always
answering "no tool", the expected calibration error (ten equal bins, Guo et al. 2017, arXiv:1706.04599) and
accuracy by family, on generated dialogues of every held-out split; a .jsonl suite is added by naming it.
The right tool is the first that the task's author calls, "no tool" when there is none: a chain belongs to
several tools, and is right only with its first. `--fit` searches the two constants on the training split instead.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np

from runtime_svc.encoder.encoder import Encoder
from runtime_svc.route import NO_TOOL, NO_TOOL_COSINE, TEMPERATURE, described, distribution
from runtime_svc.training.generator import SPLITS, generate
from runtime_svc.training.real_tools import SPECS
from treni import entry
from treni.v1 import common_pb2

_TEMPERATURES = (0.04, 0.05, 0.06, 0.07, 0.08, 0.1, 0.12)
_NO_TOOL_COSINES = (0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4)
_BINS = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """One request with the tools offered, as `route` takes them, and the right label."""

    family: str
    request: str
    names: tuple[str, ...]
    tools: tuple[str, ...]
    right: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Judged:
    """A routed case: the probability of the chosen label, that of the right one, and whether the two are one."""

    family: str
    stated: float
    of_right: float
    right: bool
    no_tool: bool


def dialogues(seed: int, number: int, split: str) -> list[Case]:
    """Cases from the dialogue generator."""
    made = [generate(seed, index, split) for index in range(number)]
    return [_case(d.family, d.prompt, list(d.tools), d.steps[0].name if d.steps else NO_TOOL) for d in made]


def suite(path: Path) -> list[Case]:
    """Cases from a suite's file; its tools are the real ones."""
    tasks = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [
        _case(
            task["family"].split("/")[0],
            task["prompt"],
            [SPECS[name] for name in task["tools"]],
            next((call["name"] for call in task["expect"]["calls"]), NO_TOOL),
        )
        for task in tasks
    ]


def _case(family: str, prompt: str, tools: Sequence[dict[str, Any]], right: str) -> Case:
    functions = [tool["function"] for tool in tools]
    specs = [common_pb2.ToolSpec(name=f["name"], description=f["description"]) for f in functions]
    return Case(
        family=family,
        request=prompt,
        names=tuple(spec.name for spec in specs),
        tools=tuple(map(described, specs)),
        right=right,
    )


def embedded(encoder: Encoder, cases: Iterable[Case]) -> dict[str, Any]:
    """The vector of every text of the cases."""
    texts = sorted({text for case in cases for text in (case.request, *case.tools)})
    return dict(zip(texts, encoder.embed(texts, truncate=True), strict=True))


def judge(
    cases: Iterable[Case],
    vectors: dict[str, Any],
    width: int,
    *,
    temperature: float = TEMPERATURE,
    no_tool_cosine: float = NO_TOOL_COSINE,
) -> list[Judged]:
    """Every case, routed."""
    judged = []
    for case in cases:
        tools = np.array([vectors[text] for text in case.tools], np.float32).reshape(-1, width)
        shares = distribution(
            vectors[case.request], tools, temperature=temperature, no_tool_cosine=no_tool_cosine
        )
        labels = (*case.names, NO_TOOL)
        judged.append(
            Judged(
                family=case.family,
                stated=float(shares.max()),
                of_right=float(shares[labels.index(case.right)]),
                right=labels[int(shares.argmax())] == case.right,
                no_tool=case.right == NO_TOOL,
            )
        )
    return judged


def log_loss(judged: Sequence[Judged]) -> float:
    """Mean negative log-likelihood of the right labels, in nats: what `--fit` minimises."""
    return -float(np.mean([math.log(max(row.of_right, 1e-12)) for row in judged]))


def calibration_error(judged: Sequence[Judged]) -> float:
    """Mean distance between stated probability and accuracy over ten equal bins, weighted by their size."""
    stated = np.array([row.stated for row in judged])
    right = np.array([row.right for row in judged], float)
    bins = np.minimum((stated * _BINS).astype(int), _BINS - 1)
    parts = [(bins == b) for b in range(_BINS) if (bins == b).any()]
    return float(sum(abs(stated[part].mean() - right[part].mean()) * part.mean() for part in parts))


@entry.command(help=__doc__)
@click.option(
    "--encoder",
    "directory",
    type=click.Path(path_type=Path),
    metavar="DIR",
    required=True,
    help="A sentence-transformers directory.",
)
@click.option(
    "--seed", type=entry.WholeRange(0, 2**32 - 1), default=1, show_default=True, help="Of the dialogues."
)
@click.option(
    "--dialogues",
    "count",
    type=entry.WholeRange(1, 10**6),
    default=1000,
    show_default=True,
    help="Of each split.",
)
@click.option("--fit", is_flag=True, help="Search the constants on the training split.")
@click.argument("suites", type=click.Path(path_type=Path, exists=True, dir_okay=False), nargs=-1)
def main(*, directory: Path, seed: int, count: int, fit: bool, suites: tuple[Path, ...]) -> None:
    """Prints one line of JSON a data set."""
    encoder = Encoder.load(directory)
    if fit:
        _fit(encoder, dialogues(seed, count, "train"))
        return
    sets: dict[str, Callable[[], list[Case]]] = {
        split: lambda split=split: dialogues(seed, count, split)  # type: ignore[misc]
        for split in SPLITS
        if split != "train"
    }
    sets |= {path.stem: lambda path=path: suite(path) for path in suites}  # type: ignore[misc]
    for name, make in sets.items():
        cases = make()
        judged = judge(cases, embedded(encoder, cases), encoder.width)
        by_family: dict[str, list[bool]] = defaultdict(list)
        for row in judged:
            by_family[row.family].append(row.right)
        print(
            json.dumps(
                {
                    "data": name,
                    "cases": len(judged),
                    "accuracy": round(float(np.mean([row.right for row in judged])), 4),
                    "always_no_tool": round(float(np.mean([row.no_tool for row in judged])), 4),
                    "calibration_error": round(calibration_error(judged), 4),
                    "by_family": {k: round(float(np.mean(v)), 3) for k, v in sorted(by_family.items())},
                }
            )
        )


def _fit(encoder: Encoder, cases: Sequence[Case]) -> None:
    vectors = embedded(encoder, cases)
    scored = [
        (log_loss(judge(cases, vectors, encoder.width, temperature=t, no_tool_cosine=c)), t, c)
        for t in _TEMPERATURES
        for c in _NO_TOOL_COSINES
    ]
    for score, temperature, cosine in sorted(scored)[:5]:
        print(json.dumps({"temperature": temperature, "no_tool_cosine": cosine, "log_loss": round(score, 5)}))


if __name__ == "__main__":
    main(prog_name="python -m runtime_svc.training.evaluate_route")

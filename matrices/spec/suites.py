"""Suites of tasks: JSONL files, parsed once into frozen values.

A suite is a list of *runs* (the statistical blocks), each a few tasks. Every task carries what its author says
is right: the exact final answer and the exact tool calls.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

import pydantic
from pydantic import BaseModel, ConfigDict, Field

from treni.errors import TreniError, invalid_argument
from treni.storage import reading
from treni.text_files import json_lines


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class ExpectedCall(_Strict):
    """A tool call that the task needs.

    `refused`: the tool refuses these arguments and nothing happens; the model is to read why and repair the call.
    """

    name: str
    arguments: dict[str, Any]
    refused: bool = False


class Expected(_Strict):
    """What is right: the final answer, word for word, and the tool calls in order."""

    answer: str = Field(min_length=1)
    calls: tuple[ExpectedCall, ...] = Field(default=(), strict=False)


class Task(_Strict):
    """One request to an agent; `run` is the block it belongs to, `side_effects` how many effects it has."""

    id: str = Field(min_length=1, max_length=256)
    family: str = Field(min_length=1)
    run: int = Field(ge=0)
    prompt: str = Field(min_length=1)
    tools: tuple[str, ...] = Field(strict=False)
    expect: Expected
    side_effects: int = Field(ge=0)

    def is_correct(self, answer: str) -> bool:
        """Whether `answer` is the expected one, apart from white space at its ends."""
        return answer.strip() == self.expect.answer.strip()


class Suite(_Strict):
    """A named list of runs, each a tuple of tasks."""

    name: str
    runs: tuple[tuple[Task, ...], ...] = Field(strict=False)

    @property
    def tasks(self) -> tuple[Task, ...]:
        """Every task, run by run."""
        return tuple(task for run in self.runs for task in run)

    def take(self, runs: int) -> list[tuple[Task, ...]]:
        """The first `runs` runs; a suite that has fewer starts again from its first."""
        return [self.runs[index % len(self.runs)] for index in range(runs)]


def load_suite(selection: str) -> Suite:
    """The bundled suite of that name, or the one in a .jsonl file.

    Raises INVALID_ARGUMENT naming the file, the line and the key.
    """
    if selection.endswith(".jsonl"):
        path = Path(selection)
        with reading(path, "a suite file"):
            data = path.read_bytes()
        return _parse(path.stem, str(path), data)
    names = bundled_suites()
    if selection not in names:
        raise invalid_argument(
            "suite_unknown",
            expected=f"a suite among {', '.join(names)}, or a path to a .jsonl file",
            got=repr(selection),
            todo="choose one of them",
        )
    resource = resources.files("matrices") / "suites" / f"{selection}.jsonl"
    return _parse(selection, f"{selection}.jsonl", resource.read_bytes())


def bundled_suites() -> list[str]:
    """Names of the suites that ship with the package."""
    folder = resources.files("matrices") / "suites"
    return sorted(entry.name[: -len(".jsonl")] for entry in folder.iterdir() if entry.name.endswith(".jsonl"))


def _parse(name: str, source: str, data: bytes) -> Suite:
    runs: dict[int, list[Task]] = {}
    seen: set[str] = set()
    for number, value in json_lines(data, source):
        try:
            task = Task.model_validate(value)
        except pydantic.ValidationError as error:
            problems = "; ".join(
                f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_url=False)
            )
            raise _invalid(f"a task in {source} line {number}", problems, "correct it") from None
        if task.id in seen:
            raise _invalid(
                f"task ids that differ in {source}", f"{task.id!r} again in line {number}", "rename one"
            )
        seen.add(task.id)
        runs.setdefault(task.run, []).append(task)
    if sorted(runs) != list(range(len(runs))) or not runs:
        numbered = ", ".join(map(str, sorted(runs)[:10])) or "no task"
        raise _invalid(f"runs numbered 0, 1, 2, ... in {source}", numbered, "renumber them")
    return Suite(name=name, runs=tuple(tuple(runs[index]) for index in range(len(runs))))


def _invalid(expected: str, got: str, todo: str) -> TreniError:
    return invalid_argument("suite_invalid", expected=expected, got=got, todo=todo)

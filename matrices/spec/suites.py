"""Suites of tasks: JSONL files, parsed once into frozen values.

A suite is a list of *runs* (the statistical blocks), each a few tasks. Every task carries what its author says
is right: the final answer, how answers are held against it, and the exact tool calls.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

import pydantic
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_serializer, model_validator

from controller.loop import scenario_named
from controller.scenarios import DEFAULT as DEFAULT_SCENARIO
from controller.scenarios import SCENARIOS
from matrices.graders.exact import Exact
from matrices.graders.grader import Grader
from matrices.spec.options import grader_of, grader_schema, unknown, written
from tools_svc.registry import TOOLS
from tools_svc.suggest import did_you_mean
from treni.errors import Code, TreniError, invalid_argument
from treni.limits import USER_TURNS
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
    """What is right: the final answer, which the task's grader holds answers against, and the tool calls in order.

    `calls` None: nobody told which calls the task takes. Those that are made are then seen and not judged.
    """

    answer: str = Field(min_length=1)
    calls: tuple[ExpectedCall, ...] | None = Field(default=None, strict=False)


AnyGrader = Annotated[
    pydantic.SkipValidation[Grader],
    BeforeValidator(grader_of),
    pydantic.WithJsonSchema(grader_schema(), mode="validation"),
]
"""A grader as a suite names it: by its name, or as an object with its `name` and its options."""

DEFAULT_GRADER = Exact()
"""What judges the answers to a task that names no grader."""


def _short_forms(schema: dict[str, Any]) -> None:
    """The JSON schema of a user turn with what its keys are short for."""
    schema["properties"]["answer"] = {
        "description": 'Short for "expect": {"answer": ...}.',
        "minLength": 1,
        "type": "string",
    }
    schema["required"].remove("expect")
    schema["oneOf"] = [{"required": ["expect"]}, {"required": ["answer"]}]


class FollowUp(_Strict):
    """What the user says after an answer, in the same conversation, and what is right then.

    `grader` None: that of the task.
    """

    model_config = ConfigDict(json_schema_extra=_short_forms)

    prompt: str = Field(min_length=1)
    expect: Expected
    grader: AnyGrader | None = None

    @model_validator(mode="before")
    @classmethod
    def _in_full(cls, given: Any) -> Any:
        """The turn with what its keys are short for written out."""
        return _answer_in_full(given) if isinstance(given, dict) else given

    @model_serializer(mode="wrap")
    def _as_given(self, serialize: pydantic.SerializerFunctionWrapHandler) -> dict[str, Any]:
        """The turn as a suite says it, without a grader of its own where it has none."""
        dumped: dict[str, Any] = serialize(self)
        del dumped["grader"]
        if self.grader is not None:
            dumped["grader"] = written(self.grader)
        return dumped


@dataclass(frozen=True, kw_only=True, slots=True)
class UserTurn:
    """One thing that a user says in a task, what is right then, and what judges the answer."""

    prompt: str
    expect: Expected
    grader: Grader


class Task(_Strict):
    """One request to an agent; `run` is the block it belongs to, `side_effects` how many effects its told calls have.

    `follow_ups` are what the user says after the answers, in one conversation. `grader` is the name of a grader, or an
    object with its `name` and its options; `scenario` names what the agent does with all that the user says.
    `"answer": TEXT` is short for `"expect": {"answer": TEXT}`.
    """

    model_config = ConfigDict(json_schema_extra=_short_forms)

    id: str = Field(min_length=1, max_length=256)
    family: str = Field(default="task", min_length=1)
    run: int = Field(default=0, ge=0)
    prompt: str = Field(min_length=1)
    tools: tuple[str, ...] = Field(default=(), strict=False)
    expect: Expected
    side_effects: int = Field(default=0, ge=0)
    grader: AnyGrader = Field(default=DEFAULT_GRADER, json_schema_extra={"default": "exact"})

    scenario: str = DEFAULT_SCENARIO
    follow_ups: tuple[FollowUp, ...] = Field(default=(), strict=False, max_length=USER_TURNS.most - 1)

    @property
    def turns(self) -> tuple[UserTurn, ...]:
        """All that the user says, in order."""
        first = UserTurn(prompt=self.prompt, expect=self.expect, grader=self.grader)
        later = (
            UserTurn(
                prompt=one.prompt,
                expect=one.expect,
                grader=self.grader if one.grader is None else one.grader,
            )
            for one in self.follow_ups
        )
        return (first, *later)

    @property
    def told(self) -> bool:
        """Whether it is known which calls the task takes: its author says so, or there is nothing to call."""
        return not self.tools or all(turn.expect.calls is not None for turn in self.turns)

    @property
    def calls(self) -> tuple[ExpectedCall, ...]:
        """The tool calls that are right, in order, over all that the user says; none where nobody told."""
        return tuple(call for turn in self.turns for call in turn.expect.calls or ())

    @property
    def expected_calls(self) -> int | None:
        """How many tool calls are right; None where nobody told."""
        return len(self.calls) if self.told else None

    @property
    def quiet(self) -> bool:
        """Whether it surely changes nothing: it may be run beside the plan."""
        return self.side_effects == 0 and (self.told or not any(map(_may_change, self.tools)))

    @property
    def steps(self) -> tuple[tuple[str, ...], ...]:
        """For each user turn the hops ("model" or "tool") that a run calls on, if all goes as expected."""
        scenario = scenario_named(self.scenario)
        return tuple(tuple(scenario.steps(len(turn.expect.calls or ()))) for turn in self.turns)

    @model_validator(mode="before")
    @classmethod
    def _in_full(cls, given: Any) -> Any:
        """The task with what its keys are short for written out."""
        if not isinstance(given, dict):
            return given
        full = _answer_in_full(given)
        if "side_effects" not in full:
            turns = full.get("follow_ups")
            full["side_effects"] = sum(
                _leaves_an_effect(call)
                for turn in (full, *(turns if isinstance(turns, list) else ()))
                for call in _calls_given(turn)
            )
        return full

    @model_validator(mode="after")
    def _playable(self) -> Task:
        try:
            scenario_named(self.scenario)
        except TreniError as error:
            is_unknown = error.kind == "scenario_unknown"
            raise ValueError(
                unknown("scenario", self.scenario, SCENARIOS) if is_unknown else str(error)
            ) from None
        called = [steps.count("tool") for steps in self.steps]
        if self.told and called != [len(turn.expect.calls or ()) for turn in self.turns]:
            raise ValueError(f"a scenario {self.scenario} with as many tool calls as the task expects")
        return self

    @model_validator(mode="after")
    def _expectable(self) -> Task:
        for turn in self.turns:
            turn.grader.refuse(turn.expect.answer)
        return self

    @model_serializer(mode="wrap")
    def _as_given(self, serialize: pydantic.SerializerFunctionWrapHandler) -> dict[str, Any]:
        """The task as a suite says it: what is as by default is not written."""
        dumped: dict[str, Any] = serialize(self)
        del dumped["grader"]
        if self.grader != DEFAULT_GRADER:
            dumped["grader"] = written(self.grader)
        if self.scenario == DEFAULT_SCENARIO:
            del dumped["scenario"]
        if not self.follow_ups:
            del dumped["follow_ups"]
        return dumped

    def are_correct(self, answers: Sequence[str]) -> bool:
        """Whether there is an answer to each user turn, and all of them are right; see `is_correct`."""
        return len(answers) == len(self.turns) and all(
            self.is_correct(answer, turn) for turn, answer in enumerate(answers)
        )

    def is_correct(self, answer: str, turn: int = 0) -> bool:
        """Whether that user turn's grader accepts `answer`. Raises INTERNAL (`grader_failed`) for one that broke."""
        asked = self.turns[turn]
        try:
            return asked.grader.is_correct(answer, expected=asked.expect.answer)
        except Exception as error:  # a grader may be any package's
            raise TreniError(
                Code.INTERNAL,
                "grader_failed",
                expected=f"the grader of task {self.id} to judge any answer",
                got=f"{type(error).__name__}: {error}"[:300],
                todo="mend the grader; the answer is in the history, and `treni-route check` grades it again",
                definite=True,
            ) from error


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


def _answer_in_full(given: dict[str, Any]) -> dict[str, Any]:
    """What is said of a user turn, its `expect` written out. Raises `ValueError` for an answer beside that."""
    full = dict(given)
    if "answer" in full:
        if "expect" in full:
            raise ValueError('either "answer" or "expect", which has the answer in it')
        full["expect"] = {"answer": full.pop("answer")}
    return full


def _calls_given(turn: Any) -> list[Any]:
    """The calls that are expected in a user turn as given, before anything of it was checked."""
    expect = turn.get("expect") if isinstance(turn, dict) else None
    calls = expect.get("calls") if isinstance(expect, dict) else None
    return calls if isinstance(calls, list) else []


def _leaves_an_effect(call: Any) -> bool:
    """Whether a call as given is one of ours that has side effects and is not to be refused."""
    return (
        isinstance(call, dict)
        and call.get("refused") is not True
        and isinstance(call.get("name"), str)
        and call["name"] in TOOLS
        and TOOLS[call["name"]].spec.has_side_effects
    )


def _may_change(tool: str) -> bool:
    """Whether a tool may have side effects, as far as it is known here."""
    return tool not in TOOLS or TOOLS[tool].spec.has_side_effects


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


def must_pass(*, suite: object, model_dir: object) -> bool:
    """Whether a model answers every task of a suite rightly unless a fault prevents it.

    `suite` and `model_dir` are as a campaign was asked for them. The tasks of the bundled suites are those that the
    bundled model (`model_dir` None) was seen to get right (suites/README.md), and greedy decoding repeats it; of any
    other model or suite nobody knows.
    """
    return model_dir is None and suite in bundled_suites()


def _parse(name: str, source: str, data: bytes) -> Suite:
    runs: dict[int, list[Task]] = {}
    seen: set[str] = set()
    for number, value in json_lines(data, source):
        try:
            task = Task.model_validate(value)
        except pydantic.ValidationError as error:
            problems = "; ".join(_said(one) for one in error.errors(include_url=False))
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


def _said(error: Any) -> str:
    """What is wrong with a key, and which one may be meant."""
    *path, last = error["loc"] or ("",)
    where = ".".join(map(str, error["loc"]))
    if error["type"] == "extra_forbidden":
        models: dict[Any, type[BaseModel]] = {(): Task, ("expect",): Expected}
        known = [*models.get(tuple(path), ExpectedCall).model_fields, *([] if path else ["answer"])]
        return f"{where}: no such key; {did_you_mean(str(last), known)}"
    if error["type"] == "missing" and where == "expect":
        return 'answer: missing; say what is right, as "answer": TEXT'
    return f"{where}: {error['msg']}".removeprefix(": ").replace("Value error, ", "")


def _invalid(expected: str, got: str, todo: str) -> TreniError:
    return invalid_argument("suite_invalid", expected=expected, got=got, todo=todo)

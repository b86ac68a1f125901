"""The contract with an agent of the user's own (docs/agents.md): what it is given, and what it may say."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypedDict

import pydantic
from pydantic import BaseModel, ConfigDict, Field

from controller.deadline import Deadline
from controller.endpoint.failures import clip, malformed
from controller.ports import AGENT_HOP
from treni.errors import Code, TreniError
from treni.limits import USER_TURNS
from treni.v1 import agent_pb2, common_pb2

CONTRACT = 1
"""The version of the contract, in each task."""

MAX_TEXT_CHARS = 4 * 1024 * 1024
MAX_CALLS = 1024
MAX_TOKENS = (2**32 - 1) // USER_TURNS.most
"""What may be told of tokens in a user turn: a record has room for the sum of all turns."""


class Place(NamedTuple):
    """What is in progress: a task by its `run_id`, and its user turn, from 1, None where it has a single one."""

    id: str
    turn: int | None

    def __str__(self) -> str:
        return self.id if self.turn is None else f"{self.id}, turn {self.turn}"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class ToldCall(_Strict):
    """A tool call that the agent says it made: taken at its word, and judged by nobody."""

    name: str = Field(max_length=256)
    arguments: dict[str, Any] = {}
    result: Any = None
    error: bool = False


class ToldUsage(_Strict):
    """The tokens that the agent says it used, in all of its calls of models."""

    prompt_tokens: int = Field(ge=0, le=MAX_TOKENS)
    completion_tokens: int = Field(ge=0, le=MAX_TOKENS)
    cached_prompt_tokens: int = Field(default=0, ge=0, le=MAX_TOKENS)


class ToldError(_Strict):
    """Why there is no answer; `definite`: the task certainly had no effect."""

    message: str
    kind: str = Field(default="agent_failed", pattern=r"^[a-z][a-z0-9_]{0,63}$")
    definite: bool = False


class Said(_Strict):
    """One thing that an agent says: a piece of the answer's `text` as it comes, or, at last, `answer` or `error`.

    `id` is the task's `run_id`: a command has to give it, since several tasks may be in progress, and in a task of
    several user turns also the `turn`. `calls`, `usage` and `model` may come with the end.
    """

    id: str = ""
    turn: int | None = None
    text: str | None = None
    answer: str | None = None
    error: ToldError | None = None
    calls: list[ToldCall] = Field(default=[], max_length=MAX_CALLS)
    usage: ToldUsage | None = None
    model: str = Field(default="", max_length=256)

    @pydantic.model_validator(mode="after")
    def _one_thing(self) -> Said:
        if sum(one is not None for one in (self.text, self.answer, self.error)) != 1:
            raise ValueError('one of "text", "answer" and "error"')
        return self

    @property
    def ends(self) -> bool:
        """Whether nothing more is said of the task, or of its user turn."""
        return self.text is None

    @property
    def place(self) -> Place:
        """What it speaks of."""
        return Place(id=self.id, turn=self.turn)


class Exchange(TypedDict):
    """What the user said in an earlier turn, and what the agent answered."""

    prompt: str
    answer: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Given:
    """A task as the agent is given it; one of several user turns a turn at a time, with those before it."""

    request: agent_pb2.RunRequest
    seed: int
    deadline: Deadline
    earlier: tuple[Exchange, ...] = ()

    @property
    def place(self) -> Place:
        """What the agent is to speak of."""
        several = bool(self.request.follow_ups)
        return Place(id=self.request.run_id, turn=len(self.earlier) + 1 if several else None)

    @property
    def prompt(self) -> str:
        """What the user says now."""
        return (self.request.prompt, *self.request.follow_ups)[len(self.earlier)]

    @property
    def data(self) -> dict[str, Any]:
        """The task as JSON data."""
        turn = self.place.turn
        session = {"turn": turn, "turns": 1 + len(self.request.follow_ups), "earlier": list(self.earlier)}
        return {
            "treni": CONTRACT,
            "id": self.request.run_id,
            "task": self.request.task_id,
            "prompt": self.prompt,
            "tools": list(self.request.tools),
            "seed": self.seed,
            "deadline_s": round(self.deadline.remaining_s(), 3),
            **({} if turn is None else session),
        }


class OwnAgent(Protocol):
    """An agent of the user's own, however it is reached."""

    def run(self, given: Given) -> AsyncGenerator[Said, None]:
        """What it says of the task, or of its user turn; the last thing ends it. Closing it gives the task up.

        Raises TreniError for an agent that says nothing in time, ends, or says what the contract does not know.
        """
        ...


def read_said(line: bytes) -> Said:
    """What a line, or a body, of JSON says. Raises INTERNAL (`answer_malformed`) that names the key."""
    try:
        return Said.model_validate_json(line)
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        said = first["msg"].replace("Value error, ", "")
        shown = clip(line[:120].decode("utf-8", "replace"))
        raise malformed(
            "an agent to say JSON as docs/agents.md has it (what it logs belongs on stderr)",
            f"{where}: {said}, in {shown!r}" if where else f"{said}, in {shown!r}",
            hop=AGENT_HOP,
        ) from None


def tool_uses(calls: list[ToldCall]) -> list[agent_pb2.ToolUse]:
    """The told calls as a record has them."""
    return [
        agent_pb2.ToolUse(
            name=call.name,
            arguments_json=json.dumps(call.arguments, ensure_ascii=False),
            result_json="" if call.result is None else json.dumps(call.result, ensure_ascii=False),
            is_error=call.error,
        )
        for call in calls
    ]


def usage_of(told: ToldUsage | None) -> common_pb2.Usage | None:
    """The told tokens as a record has them, None where nothing was told."""
    return None if told is None else common_pb2.Usage(**told.model_dump())


def failed(told: ToldError) -> TreniError:
    """The agent's own error as a run ends with it."""
    return TreniError(
        Code.FAILED_PRECONDITION if told.definite else Code.UNKNOWN,
        told.kind,
        expected="an answer from the agent",
        got=clip(told.message) or "no reason",
        todo="see the agent's log",
        definite=told.definite,
        hop=AGENT_HOP,
        foreign=True,
    )

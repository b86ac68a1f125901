"""What a dialogue is: the offered tools, the prompt, the calls that are right with what they return, the answer."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One right tool call and the tool's answer to it (an error is {"error": text})."""

    name: str
    arguments: dict[str, Any]
    result: dict[str, Any]


Exchange = tuple[str, tuple[Step, ...], str]
"""What the user asks, the right calls, and the answer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Dialogue:
    """One task with everything that is right about it.

    `tools` are OpenAI-style dicts in the order offered; `steps` the calls in order; `answer` the final text.
    """

    family: str
    kind: str
    tools: tuple[dict[str, Any], ...]
    prompt: str
    steps: tuple[Step, ...]
    answer: str

    def respond(self, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """What the simulated tool `name` answers to `arguments`: the scripted result, or an error."""
        for step in self.steps:
            if step.name == name and same_arguments(step.arguments, arguments):
                return step.result
        return {"error": "expected known arguments; got others; give up"}

    def messages(self) -> list[dict[str, Any]]:
        """The whole dialogue in the roles of the chat template."""
        return messages_of((self.prompt, self.steps, self.answer))


@dataclass(frozen=True, kw_only=True, slots=True)
class Conversation:
    """Several exchanges, one after the other, under the same offered tools: what training reads."""

    tools: tuple[dict[str, Any], ...]
    exchanges: tuple[Exchange, ...]

    def messages(self) -> list[dict[str, Any]]:
        """The whole conversation in the roles of the chat template."""
        return [message for exchange in self.exchanges for message in messages_of(exchange)]


def messages_of(exchange: Exchange) -> list[dict[str, Any]]:
    """One exchange in the roles of the chat template."""
    prompt, steps, answer = exchange
    turns: list[dict[str, Any]] = [{"role": "user", "content": prompt}]
    for step in steps:
        call = {"function": {"name": step.name, "arguments": as_json(step.arguments)}}
        turns.append({"role": "assistant", "content": "", "tool_calls": [call]})
        turns.append({"role": "tool", "content": as_json(step.result)})
    turns.append({"role": "assistant", "content": answer})
    return turns


def as_json(value: object) -> str:
    """`value` as the tools and the template write JSON."""
    return json.dumps(value, ensure_ascii=False)


def same_arguments(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two argument objects are the same JSON value: key order does not count, types do."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def tool(name: str, description: str, properties: dict[str, Any], required: list[str]) -> dict[str, Any]:
    """A tool in the form in which chat templates take them."""
    parameters = {"type": "object", "properties": properties, "required": required}
    return {
        "type": "function",
        "function": {"name": name, "description": description, "parameters": parameters},
    }


def tool_name(spec: dict[str, Any]) -> str:
    """The name of a tool made by `tool`."""
    name: str = spec["function"]["name"]
    return name

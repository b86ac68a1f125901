"""The conversation of a request, as OpenAI's clients write it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, Tag

from runtime_svc.http_front.fields import AS_WHOLE, Identifier, Name, Strict, Text, several, text_or
from treni.limits import TOOL_CALLS

MAX_PARTS = 1024


class TextPart(Strict):
    """A piece of a message; text is the only kind that the models here read."""

    type: Literal["text"]
    text: str


Content = Annotated[Text | Annotated[list[TextPart], several(MAX_PARTS), Tag("parts")], text_or("parts")]


Speaker = Annotated[str, Field(max_length=512)]
"""Who speaks, where several do: the chat template is given it, and most have no place for it."""


class CalledFunction(Strict):
    """The function that an assistant's turn called, with its arguments as the model wrote them.

    `parsed_arguments` is what OpenAI's own client makes of them, and counts for nothing beside them.
    """

    name: Identifier
    arguments: str
    parsed_arguments: Any = None


class Call(Strict):
    """A tool call in an assistant's turn; its result is the tool message with the same id.

    `index` is its place, as OpenAI's client puts it together from a stream.
    """

    id: Identifier
    type: Literal["function"]
    function: CalledFunction
    index: Annotated[int, Field(ge=0), AS_WHOLE] | None = None


class SystemMessage(Strict):
    """What the developer tells the model before anything else."""

    role: Literal["system", "developer"]
    content: Content
    name: Speaker | None = None


class UserMessage(Strict):
    """What a user says."""

    role: Literal["user"]
    content: Content
    name: Speaker | None = None


class AssistantMessage(Strict):
    """What the model said in an earlier turn, as an answer of this server has it, or OpenAI's client keeps it.

    `parsed` is what that client makes of the content, and counts for nothing beside it.
    """

    role: Literal["assistant"]
    content: Content | None = None
    reasoning_content: str | None = None
    tool_calls: Annotated[list[Call], several(TOOL_CALLS.most)] | None = None
    refusal: None = None
    audio: None = None
    function_call: None = None
    annotations: Annotated[list[Any], several(0)] | None = None
    parsed: Any = None
    name: Speaker | None = None


class ToolMessage(Strict):
    """What a tool gave back for one call of the assistant's turn before."""

    role: Literal["tool"]
    tool_call_id: Identifier
    content: Content
    name: Name | None = None


Message = Annotated[SystemMessage | UserMessage | AssistantMessage | ToolMessage, Field(discriminator="role")]


def text_of(content: str | list[TextPart] | None) -> str:
    """All of a message's text; its parts follow each other as they are."""
    if content is None:
        return ""
    return content if isinstance(content, str) else "".join(part.text for part in content)

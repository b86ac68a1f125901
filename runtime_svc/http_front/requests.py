"""What clients may ask for: every parameter there is, its type and its bounds. What is not here is refused by name."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, Tag

from runtime_svc.http_front.fields import AS_WHOLE, Identifier, Name, No, One, Strict, Zero, several, text_or
from runtime_svc.http_front.messages import Message
from runtime_svc.validate import MAX_EMBED_TEXTS
from treni.limits import MESSAGES, NEW_TOKENS, TOOLS

MAX_STOPS = 4
MAX_TOP_LOGPROBS = 20

Tokens = Annotated[int, Field(ge=1, le=NEW_TOKENS.most), AS_WHOLE]
Schema = dict[str, Any]
Stop = Annotated[str, Field(min_length=1)]
Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh"]


class Function(Strict):
    """A function that the model may call; without `parameters` it takes none."""

    name: Name
    description: str | None = None
    parameters: Schema | None = None
    strict: bool | None = None


class Tool(Strict):
    """A tool as it is offered to the model."""

    type: Literal["function"]
    function: Function


class FunctionName(Strict):
    """One of the offered functions, by its name."""

    name: Name


class NamedTool(Strict):
    """A choice of one tool, which the model then must call."""

    type: Literal["function"]
    function: FunctionName


class StreamOptions(Strict):
    """How an answer is streamed."""

    include_usage: bool | None = None
    include_obfuscation: No | None = None


class AnyText(Strict):
    """An answer of any form."""

    type: Literal["text"]


class AnyObject(Strict):
    """An answer that is a JSON object."""

    type: Literal["json_object"]


class NamedSchema(Strict):
    """A JSON schema; the answer is held to it whatever `strict` says."""

    name: Name
    description: str | None = None
    schema_: Annotated[Schema, Field(alias="schema")]
    strict: bool | None = None


class BySchema(Strict):
    """An answer that is a JSON document which fits a schema."""

    type: Literal["json_schema"]
    json_schema: NamedSchema


class TemplateArguments(Strict):
    """What of a chat template's own arguments may be set."""

    enable_thinking: bool | None = None


class ChatRequest(Strict):
    """The body of POST /v1/chat/completions. A parameter that is null counts as one that is left out."""

    model: Identifier
    messages: Annotated[list[Message], several(MESSAGES.most, 1)]
    tools: Annotated[list[Tool], several(TOOLS.most)] | None = None
    tool_choice: (
        Annotated[
            Annotated[Literal["none", "auto", "required"], Tag("text")] | Annotated[NamedTool, Tag("named")],
            text_or("named"),
        ]
        | None
    ) = None
    parallel_tool_calls: bool | None = None
    response_format: Annotated[AnyText | AnyObject | BySchema, Field(discriminator="type")] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_completion_tokens: Tokens | None = None
    max_tokens: Tokens | None = None
    stop: (
        Annotated[
            Annotated[Stop, Tag("text")] | Annotated[list[Stop], several(MAX_STOPS), Tag("several")],
            text_or("several"),
        ]
        | None
    ) = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=0, le=2**31 - 1), AS_WHOLE] | None = None
    seed: Annotated[int, Field(ge=-(2**63), le=2**63 - 1), AS_WHOLE] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=MAX_TOP_LOGPROBS), AS_WHOLE] | None = None
    reasoning_effort: Effort | None = None
    thinking_token_budget: Tokens | None = None
    chat_template_kwargs: TemplateArguments | None = None
    prompt_cache_key: Identifier | None = None
    user: Identifier | None = None
    n: One | None = None
    frequency_penalty: Zero | None = None
    presence_penalty: Zero | None = None
    logit_bias: Annotated[dict[str, float], Field(max_length=0)] | None = None
    store: No | None = None
    service_tier: Literal["auto", "default"] | None = None
    modalities: Annotated[list[Literal["text"]], several(1, 1)] | None = None


class EmbeddingsRequest(Strict):
    """The body of POST /v1/embeddings. Token ids are no input here: texts are."""

    model: Identifier
    input: Annotated[
        Annotated[str, Field(min_length=1), Tag("text")]
        | Annotated[
            list[Annotated[str, Field(min_length=1)]],
            several(MAX_EMBED_TEXTS, 1),
            Tag("several"),
        ],
        text_or("several"),
    ]
    encoding_format: Literal["float", "base64"] | None = None
    user: Identifier | None = None

"""What a completion may be, as a grammar over tokens and text: llguidance's variety of Lark."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from functools import partial

from runtime_svc.constraints.schema import Schema, any_object, narrowed
from treni.errors import TreniError
from treni.markup import CALL, END_CALL, END_THINK, THINK
from treni.v1 import common_pb2, inference_pb2

_WHITESPACE = r"\n {0,32}| {1,2}"
"""What may stand between two parts of a document: without an end to it, a model can write blanks for ever."""

_MUST = ("required", "tool")


def is_held(request: inference_pb2.GenerateRequest) -> bool:
    """Whether a request leaves out tokens for the form of its answer."""
    choice = request.tool_choice
    return (
        request.HasField("constraint")
        or request.constrain_calls
        or choice.one_call
        or choice.mode in ("none", *_MUST)
    )


def grammars_of(
    request: inference_pb2.GenerateRequest,
    *,
    markers: Mapping[str, int],
    ends: Collection[int],
    thinking: bool,
) -> list[str]:
    """The grammars of the completions of a checked request that `is_held`: the first counts that can be compiled.

    `markers` are the tags that are tokens, by their ids; the others are told by their characters. `ends` are the ids of
    the tokens that end a turn, and `thinking` says that the prompt has opened a thought.

    There are two where a call has to be made and nothing says that its arguments must fit: they do, or, where their
    schemas are none that decoding can be held to, are any object. Else a schema like that raises INVALID_ARGUMENT.
    """
    grammar = partial(_grammar, request, markers=markers, ends=ends, thinking=thinking)
    if request.tool_choice.mode not in _MUST or request.constrain_calls:
        return [grammar(fitting=request.constrain_calls)]
    free = grammar(fitting=False)
    try:
        return [grammar(fitting=True), free]
    except TreniError:
        return [free]


def _grammar(
    request: inference_pb2.GenerateRequest,
    *,
    markers: Mapping[str, int],
    ends: Collection[int],
    thinking: bool,
    fitting: bool,
) -> str:
    tags = _Tags(markers)
    choice = request.tool_choice
    offered = [] if choice.mode == "none" else list(request.tools)
    if choice.mode == "tool":
        offered = [tool for tool in offered if tool.name == choice.name]
    calls = "call" if choice.one_call else 'call ("\\n" call)*'
    rules: list[str] = []
    calling = bool(offered)
    if choice.mode in _MUST:
        answer = calls
    elif request.HasField("constraint"):
        answer = f"document | {calls}" if offered else "document"
        rules.append(f"document: {_json(_document(request.constraint))}")
    elif offered or not (request.constrain_calls or choice.mode == "none"):
        answer = tags.mixed(once=choice.one_call)
        calling = True
    else:
        answer = tags.without_calls()
    if calling:
        formed = fitting or choice.mode in _MUST
        rules.append(f"call: {tags.name(CALL)} called")
        rules += tags.called(_call(offered, fitting=fitting)) if formed else tags.anything_called()
    thought = tags.thought(ends, opened=thinking) if thinking or request.thinking.enabled else ""
    return "\n".join([f"start: {thought} answer", f"answer: {answer}", *tags.rules, *rules, ""])


def _document(constraint: inference_pb2.Constraint) -> Schema:
    if constraint.WhichOneof("form") == "json_schema":
        return narrowed(constraint.json_schema, "constraint.json_schema")
    return any_object()


def _call(offered: Sequence[common_pb2.ToolSpec], *, fitting: bool) -> Schema:
    """The schema of a call of one of the tools, its name first; `fitting`: its arguments fit the tool's own schema.

    One document from brace to brace, so that a token may stand across all that it is made of.
    """
    calls: list[Schema] = []
    arguments: Schema = {}
    for index, tool in enumerate(offered):
        root = f"#/$defs/tool{index}"
        where = f"tools[{index}].parameters_json"
        arguments[f"tool{index}"] = (
            narrowed(tool.parameters_json, where, root=root) if fitting else any_object(root=root)
        )
        parts = {"name": {"const": tool.name}, "arguments": {"$ref": root}}
        calls.append(
            {"type": "object", "properties": parts, "required": [*parts], "additionalProperties": False}
        )
    return {"anyOf": calls, "$defs": arguments}


def _json(schema: Schema) -> str:
    options = {"whitespace_pattern": _WHITESPACE, "lenient": False, "coerce_one_of": False}
    return "%json " + json.dumps({"x-guidance": options, **schema})


class _Tags:
    """The model's markup in a grammar: a tag is a token where the tokenizer has it as one, and text elsewhere."""

    def __init__(self, markers: Mapping[str, int]) -> None:
        self._markers = markers
        self.rules: list[str] = []

    def name(self, tag: str) -> str:
        """The symbol of a tag."""
        return f"<[{self._markers[tag]}]>" if tag in self._markers else json.dumps(tag)

    def mixed(self, *, once: bool) -> str:
        """Text with calls in it; with `once` nothing follows a call."""
        if CALL in self._markers:
            self.rules.append(f"other: <[^{self._markers[CALL]}]>")
            return "other* call?" if once else "(other | call)*"
        self.rules.append(f"before[lazy]: {_up_to(CALL)}")
        rest = self.without_calls()
        return f"before called | {rest}" if once else f"(before called)* {rest}"

    def without_calls(self) -> str:
        """Text in which no call begins."""
        if CALL in self._markers:
            return f"<[^{self._markers[CALL]}]>*"
        self.rules.append(f"REST: /(?s:.*)/ & ~{_up_to(CALL, after='(?s:.*)')}")
        return "REST"

    def called(self, call: Schema) -> list[str]:
        """What stands between the tags of a call that fits the schema, with line breaks as templates write them.

        The first one also keeps a back-tick before the call from quoting it: it would have to close on its line.
        """
        return [f'called: "\\n" object "\\n" {self.name(END_CALL)}', f"object: {_json(call)}"]

    def anything_called(self) -> list[str]:
        """What stands between the tags of a call that is held to nothing."""
        if END_CALL in self._markers:
            return [f"called: <[^{self._markers[END_CALL]}]>* {self.name(END_CALL)}"]
        return [f"called[lazy]: {_up_to(END_CALL)}"]

    def thought(self, ends: Collection[int], *, opened: bool) -> str:
        """A thought, which the turn does not end in; one that may come, where the prompt has not `opened` it."""
        if END_THINK in self._markers:
            ids = ",".join(map(str, sorted({self._markers[END_THINK], *ends})))
            self.rules.append(f"thought: <[^{ids}]>* {self.name(END_THINK)} BLANK")
        else:
            self.rules += [f"thoughts[lazy]: {_up_to(END_THINK)}", "thought: thoughts BLANK"]
        self.rules.append(r"BLANK: /[ \t\r\n]{0,8}/")
        return "thought" if opened else f"({self.name(THINK)} thought)?"


def _up_to(tag: str, *, after: str = "") -> str:
    """A regular expression of whatever ends with the tag."""
    escaped = re.escape(tag).replace("/", r"\/")
    return f"/(?s:.*){escaped}{after}/"

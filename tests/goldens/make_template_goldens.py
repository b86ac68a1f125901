"""Writes what transformers renders with the templates in `templates/`, for the engine's own rendering.

    python tests/goldens/make_template_goldens.py

Needs transformers and Jinja only. The templates are our own: each uses of Jinja what the published templates of one
family use, and is no copy of any. A template that refuses a conversation has an error in its place, and "text" as its
form of arguments where it takes them as JSON text only.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

from transformers.utils.chat_template_utils import render_jinja_template

HERE = Path(__file__).parent
TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}


def _tool(name: str, description: str, **properties: dict[str, Any]) -> dict[str, Any]:
    parameters = {"type": "object", "properties": properties, "required": [next(iter(properties))]}
    return {
        "type": "function",
        "function": {"name": name, "description": description, "parameters": parameters},
    }


def _call(name: str, **arguments: object) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "arguments": arguments}}


def _say(role: str, content: str, **more: object) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


TOOLS = [
    _tool(
        "calculator", ' Works out <numbers> & "more". ', expression={"type": "string", "description": "é < 3"}
    ),
    _tool(
        "notes_search",
        "Searches.",
        query={"type": "string", "description": "words"},
        limit={"type": "integer", "minimum": 1},
        tags={"type": "array", "items": {"type": "string"}, "x-order by": ["a", "b"]},
    ),
]
_SYSTEM = _say("system", "Be brief.")
_SUM = _say("user", "2+2?")
_CALL = _call("calculator", expression='2 * "é" <\n')
_SEARCH = _call("notes_search", query="x", limit=2, deep={"a": [1, 2.5, None, True], "b": {}})
_RESULT = _say("tool", '{"value": 4}', name="calculator")

CONVERSATIONS: dict[str, tuple[list[dict[str, Any]], list[dict[str, Any]] | None]] = {
    "question": ([_say("user", "Hello\n")], None),
    "system": ([_SYSTEM, _say("user", " Hello")], None),
    "talk": ([_SYSTEM, _SUM, _say("assistant", "\nIt is <4> & 'so'. "), _say("user", "Sure? /brief")], None),
    "brief": ([_say("system", "x /brief"), _SUM, _say("assistant", "4"), _SUM], None),
    "tools": ([_SYSTEM, _SUM], TOOLS),
    "call": ([_SUM, _say("assistant", "", tool_calls=[_CALL]), _RESULT], TOOLS),
    "answered": (
        [
            _SYSTEM,
            _SUM,
            _say("assistant", "Let me see.", tool_calls=[_CALL]),
            _RESULT,
            _say("assistant", "4."),
            _say("user", "Thanks"),
        ],
        TOOLS,
    ),
    "two calls": (
        [
            _SUM,
            _say("assistant", "", tool_calls=[_CALL, _SEARCH]),
            _RESULT,
            _say("tool", '{"hits": []}', name="notes_search"),
        ],
        TOOLS[1:],
    ),
    "thoughts": (
        [
            _SUM,
            _say("assistant", "4", reasoning_content="\neasy\n"),
            _SUM,
            _say("assistant", "So:", reasoning_content="again", tool_calls=[_CALL]),
            _RESULT,
        ],
        TOOLS,
    ),
    "thoughts in the text": (
        [
            _SUM,
            _say("assistant", "<think>\neasy\n</think>\n\n4"),
            _SUM,
            _say("assistant", "<think>hm</think>", tool_calls=[_CALL]),
            _RESULT,
        ],
        None,
    ),
    "roles out of order": ([_SUM, _SUM], None),
}


def _with_text(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The conversation with arguments as JSON text."""
    messages = copy.deepcopy(messages)
    for message in messages:
        for call in message.get("tool_calls", []):
            function = call["function"]
            function["arguments"] = json.dumps(function["arguments"], ensure_ascii=False)
    return messages


def _render(
    source: str, messages: list[dict[str, Any]], tools: list[dict[str, Any]] | None
) -> dict[str, str]:
    for form, conversation in (("mapping", copy.deepcopy(messages)), ("text", _with_text(messages))):
        try:
            (text,), _ = render_jinja_template(
                conversations=[conversation],
                tools=tools,
                chat_template=source,
                add_generation_prompt=True,
                enable_thinking=False,
                **TOKENS,
            )
        except Exception as error:  # whatever a template raises
            problem = str(error)
        else:
            return {"arguments": form, "rendered": text}
    return {"error": problem}


def main() -> None:
    """Writes `data/templates.json`."""
    rendered = {
        path.stem: {
            name: _render(path.read_text(encoding="utf-8"), *conversation)
            for name, conversation in CONVERSATIONS.items()
        }
        for path in sorted((HERE / "templates").glob("*.jinja"))
    }
    value = {"tokens": TOKENS, "conversations": CONVERSATIONS, "rendered": rendered}
    text = json.dumps(value, ensure_ascii=False, indent=1)
    (HERE / "data" / "templates.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

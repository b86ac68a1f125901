"""Ten templates with the constructs of as many published families: rendered as transformers renders them, attacked."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import cache
from typing import Any, TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken

from runtime_svc.random_checkpoint import byte_tokenizer
from runtime_svc.template import ChatTemplate
from runtime_svc.tokens.provenance import written
from runtime_svc.tokens.tokenizer import Tokenizer
from tests.places import GOLDENS
from treni.errors import TreniError
from treni.v1 import common_pb2

GOLDEN = json.loads((GOLDENS / "data" / "templates.json").read_text(encoding="utf-8"))
Parts: TypeAlias = tuple[ChatTemplate, Tokenizer, list[str]]
NAMES = sorted(path.stem for path in (GOLDENS / "templates").iterdir())
SOURCES = {name: (GOLDENS / "templates" / f"{name}.jinja").read_text(encoding="utf-8") for name in NAMES}

TOKEN = re.compile(r"<\|[^|<>\s]+\|>|<\uff5c[^<>\s]+\uff5c>|\[/?[A-Z]+(?:_[A-Z]+)?\](?=[^\[])|</?s>")
ROLES = ["<|user|>", "<|assistant|>", "<|system|>", "<|tool|>"]


def text_json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def conversation(
    messages: list[dict[str, Any]], tools: list[dict[str, Any]] | None
) -> tuple[list[common_pb2.Message], list[common_pb2.ToolSpec]]:
    """A conversation in Hugging Face's form as the contract has it."""
    turns = [
        common_pb2.Message(
            role=turn["role"],
            content=turn["content"],
            **{"tool_name" if turn["role"] == "tool" else "name": turn.get("name", "")},
            thinking=turn.get("reasoning_content", ""),
            tool_calls=[
                common_pb2.ToolCall(
                    name=call["function"]["name"], arguments_json=text_json(call["function"]["arguments"])
                )
                for call in turn.get("tool_calls", [])
            ],
        )
        for turn in messages
    ]
    specs = [
        common_pb2.ToolSpec(
            name=tool["function"]["name"],
            description=tool["function"]["description"],
            parameters_json=text_json(tool["function"]["parameters"]),
        )
        for tool in tools or []
    ]
    return turns, specs


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Parts]:
    """Template and tokenizer by name; the tokenizer has every control token that the template writes."""

    @cache
    def load(name: str) -> Parts:
        directory = tmp_path_factory.mktemp(name)
        (directory / "chat_template.jinja").write_text(SOURCES[name], encoding="utf-8")
        (directory / "tokenizer_config.json").write_text(json.dumps(GOLDEN["tokens"]))
        library = byte_tokenizer()
        control = sorted({*TOKEN.findall(SOURCES[name]), *GOLDEN["tokens"].values(), *ROLES})
        # As in the wild, not all of them are flagged.
        for token in control:
            library.add_tokens([AddedToken(token, special=not token.startswith("<\uff5c"), normalized=False)])
        library.save(str(directory / "tokenizer.json"))
        template, tokenizer = ChatTemplate(directory), Tokenizer(directory)
        template.check(tokenizer.misplaced)
        return template, tokenizer, control

    return load


@pytest.mark.parametrize("name", NAMES)
def test_rendered_as_transformers_does(checkpoints: Callable[[str], Parts], name: str) -> None:
    template, tokenizer, _ = checkpoints(name)
    assert GOLDEN["rendered"][name].keys() == GOLDEN["conversations"].keys()
    for key, expected in GOLDEN["rendered"][name].items():
        request = conversation(*GOLDEN["conversations"][key])
        if "error" in expected:
            with pytest.raises(TreniError, match=re.escape(expected["error"])):
                template.render(*request)
            continue
        prompt = template.render(*request)
        assert prompt == expected["rendered"], key
        assert tokenizer.misplaced(prompt) == [], key


def structure(tokenizer: Tokenizer, control: list[str], ids: list[int]) -> list[str]:
    """The control tokens and markers among the ids, in their order."""
    known = {tokenizer.encode(written(token))[0]: token for token in control} | {
        i: token for token, i in tokenizer.markers.items()
    }
    return [known[i] for i in ids if i in known]


def hostile(text: str) -> tuple[list[common_pb2.Message], list[common_pb2.ToolSpec]]:
    """A conversation with the text in every place that a user, a tool or its author can fill."""
    schema = {
        "type": "object",
        "properties": {f"p{text}": {"type": "string", "description": text, f"x{text}": [text], text: text}},
        "required": [f"p{text}"],
    }
    tool = {
        "type": "function",
        "function": {"name": f"f{text}", "description": text, "parameters": schema},
    }
    arguments = {"expression": text, f"k{text}": {text: [text]}}
    call = {"type": "function", "function": {"name": f"f{text}", "arguments": arguments}}
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": f"s{text}", "name": text},
        {"role": "user", "content": f"u{text}", "name": text},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": f"{text}t", "name": f"f{text}"},
        {"role": "assistant", "content": "done"},
        {"role": "user", "content": text},
    ]
    return conversation(messages, [tool])


FRAGMENTS = [
    "<",
    "<|",
    "|>",
    ">",
    "[",
    "]",
    "|",
    "user",
    "im_end",
    "<|im_",
    "end|>",
    "a",
    " ",
    "\n",
    '"',
    "\\",
    "{}",
]


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=60)
@given(data=st.data())
def test_no_text_of_a_conversation_changes_its_control_tokens(
    checkpoints: Callable[[str], Parts], name: str, data: st.DataObject
) -> None:
    template, tokenizer, control = checkpoints(name)
    pieces = st.sampled_from([*control, *tokenizer.markers, "<|im_start|>system\n", *FRAGMENTS]) | st.text(
        max_size=3
    )
    text = data.draw(st.lists(pieces, max_size=5).map("".join))
    expected = structure(tokenizer, control, tokenizer.encode(template.render(*hostile("harmless"))))
    prompt = template.render(*hostile(text))
    assert structure(tokenizer, control, tokenizer.encode(prompt)) == expected


@pytest.mark.parametrize(
    "escaped", ["\\u003c|im_end|>", "<\\u007cim_end|>", "\\u003c\\u007cim_end\\u007c\\u003e"]
)
@pytest.mark.parametrize("name", NAMES)
def test_escapes_in_json_make_none_either(
    checkpoints: Callable[[str], Parts], name: str, escaped: str
) -> None:
    template, tokenizer, control = checkpoints(name)
    tool = common_pb2.ToolSpec(
        name="f",
        description="d",
        parameters_json=f'{{"type": "object", "properties": {{"{escaped}": {{"type": "string", '
        f'"description": "{escaped}", "{escaped}": "{escaped}"}}}}, "required": ["{escaped}"]}}',
    )
    call = common_pb2.ToolCall(name="f", arguments_json=f'{{"{escaped}": ["{escaped}"]}}')
    messages = [
        common_pb2.Message(role="user", content="a"),
        common_pb2.Message(role="assistant", tool_calls=[call]),
        common_pb2.Message(role="tool", tool_name="f", content=f'{{"x": "{escaped}"}}'),
    ]
    prompt = template.render(messages, [tool])
    plain = template.render(
        [messages[0], common_pb2.Message(role="assistant", tool_calls=[HARMLESS]), messages[2]],
        [HARMLESS_TOOL],
    )
    found = structure(tokenizer, control, tokenizer.encode(prompt))
    assert found == structure(tokenizer, control, tokenizer.encode(plain))


HARMLESS = common_pb2.ToolCall(name="f", arguments_json='{"y": ["y"]}')
HARMLESS_TOOL = common_pb2.ToolSpec(
    name="f",
    description="d",
    parameters_json='{"type": "object", "properties": {"y": {"type": "string", "description": "y", "y": "y"}}, '
    '"required": ["y"]}',
)

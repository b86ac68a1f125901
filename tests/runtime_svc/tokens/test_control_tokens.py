"""Only a template writes control tokens: whatever stands in a conversation is encoded as the text that it is."""

from __future__ import annotations

import json
from collections.abc import Iterable
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as HuggingFaceTokenizer

from runtime_svc.template import ChatTemplate
from runtime_svc.tokens.provenance import SPOKEN, Traced, written
from runtime_svc.tokens.tokenizer import MARKERS, Tokenizer
from runtime_svc.training.corpus import render
from runtime_svc.training.evaluate import CHECKPOINT
from tests.runtime_svc.requests import message
from tools_svc.protocol import ToolsConfig
from tools_svc.registry import build_registry
from treni.errors import TreniError
from treni.v1 import common_pb2

PIECES = st.sampled_from(
    [
        "<|im_end|>", "<|im_start|>", "<|endoftext|>", "<|im_start|>system\n", "<tool_call>", "</tool_call>",
        "</tool_response>", "<think>", "</think>", "<|im_", "end|>", "<", "|>", "|im_end|", "\\u003c|im_end|>",
        "<|IM_END|>", "a", " ", "\n", '"', "é", "}", "\u2028",
    ]
)  # fmt: skip
TEXT = st.lists(PIECES, max_size=6).map("".join)


@pytest.fixture(scope="module")
def tokenizer(random_directory: Path) -> Tokenizer:
    return Tokenizer(random_directory)


def structure(tokenizer: Tokenizer, ids: list[int]) -> list[str]:
    """The control tokens and markers among the ids, in their order."""
    known = {**{tokenizer.encode(written(token))[0]: token for token in tokenizer.control}}
    known |= {i: token for token, i in tokenizer.markers.items()}
    return [known[i] for i in ids if i in known]


def spoken(tokenizer: Tokenizer, ids: list[int]) -> str:
    """The text of the ids, control tokens written out."""
    return tokenizer._file.library.decode(ids, skip_special_tokens=False)


@given(TEXT)
def test_a_plain_text_has_neither_control_tokens_nor_markers(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text)
    assert structure(tokenizer, ids) == []
    assert spoken(tokenizer, ids) == text


@given(TEXT)
def test_the_model_s_words_have_markers_only(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(Traced(text, SPOKEN))
    assert set(structure(tokenizer, ids)) <= MARKERS
    assert len(structure(tokenizer, ids)) == sum(text.count(marker) for marker in MARKERS)
    assert spoken(tokenizer, ids) == text


@given(TEXT, TEXT)
def test_a_token_is_one_only_if_all_of_it_was_written(tokenizer: Tokenizer, before: str, after: str) -> None:
    text = before + written("<|im_end|>") + after
    ids = tokenizer.encode(text)
    assert structure(tokenizer, ids) == ["<|im_end|>"]
    assert spoken(tokenizer, ids) == text


@pytest.mark.parametrize(
    "parts",
    [
        (written("<"), "|im_end|", written(">")),
        (written("<|im_"), "end|>"),
        ("<", written("|im_end|>")),
        (written("<|im_end|"), ">"),
        (Traced("<|im", SPOKEN), written("_end|>")),
        (written("<tool"), "_call>"),
    ],
)
def test_half_a_token_is_none(tokenizer: Tokenizer, parts: tuple[str, ...]) -> None:
    text = Traced("")
    for part in parts:
        text = text + part
    ids = tokenizer.encode(text)
    assert structure(tokenizer, ids) == []
    assert spoken(tokenizer, ids) == text
    assert tokenizer.misplaced(text) == [text]


def test_a_token_in_parts_of_a_template_s_is_one(tokenizer: Tokenizer) -> None:
    text = written("<|") + written("im_end") + written("|>")
    assert structure(tokenizer, tokenizer.encode(text)) == ["<|im_end|>"]
    assert tokenizer.misplaced(text) == []


def conversation(text: str) -> tuple[list[common_pb2.Message], list[common_pb2.ToolSpec]]:
    schema = {"type": "object", "properties": {text: {"type": "string", "description": text}}, "enum": [text]}
    arguments = json.dumps({"x": text, text: [text]}, ensure_ascii=True).replace("<", "\\u003c")
    call = common_pb2.ToolCall(name=f"f{text}", arguments_json=arguments)
    tool = common_pb2.ToolSpec(
        name=f"f{text}", description=text, parameters_json=json.dumps(schema).replace("<", "\\u003c")
    )
    messages = [
        message(text, role="system"),
        message(text),
        message("", role="assistant", tool_calls=[call]),
        message(text, role="tool", tool_name=f"f{text}"),
        message("done", role="assistant"),
        message(text),
    ]
    return messages, [tool]


@given(TEXT)
def test_every_place_of_a_conversation(random_directory: Path, tokenizer: Tokenizer, text: str) -> None:
    template = ChatTemplate(random_directory)
    expected = structure(tokenizer, tokenizer.encode(template.render(*conversation("x"))))
    assert expected.count("<|im_end|>") == 7
    prompt = template.render(*conversation(text))
    ids = tokenizer.encode(prompt)
    assert structure(tokenizer, ids) == expected
    assert spoken(tokenizer, ids) == prompt


SUITES = sorted((resources.files("matrices") / "suites").iterdir(), key=lambda file: file.name)


@pytest.mark.parametrize(
    "suite", [file for file in SUITES if file.name.endswith(".jsonl")], ids=lambda file: file.name
)
def test_the_suites_prompts_have_the_tokens_that_training_gave_them(
    suite: Traversable, tmp_path: Path
) -> None:
    """Against the training's own rendering, and the whole text through the `tokenizers` library."""
    tokenizer, template = Tokenizer(CHECKPOINT), ChatTemplate(CHECKPOINT)
    library = HuggingFaceTokenizer.from_file(str(CHECKPOINT / "tokenizer.json"))
    registry = build_registry(ToolsConfig(ledger_path=tmp_path / "ledger"))
    for line in suite.read_text(encoding="utf-8").splitlines():
        task = json.loads(line)
        tools = [spec for spec in registry.specs() if spec.name in task["tools"]]
        messages = [message(task["prompt"])]
        for number, use in enumerate(task["expect"]["calls"]):
            call = common_pb2.ToolCall(name=use["name"], arguments_json=json.dumps(use["arguments"]))
            messages.append(message("", role="assistant", tool_calls=[call]))
            messages.append(message(f'{{"value": {number}}}', role="tool", tool_name=use["name"]))
        prompt = template.render(messages, tools)
        assert prompt == render(plain(messages), tuple(map(plain_tool, tools)), prompt=True)
        assert tokenizer.encode(prompt) == library.encode(str.__str__(prompt), add_special_tokens=False).ids


def plain(messages: Iterable[common_pb2.Message]) -> list[dict[str, Any]]:
    return [
        {
            "role": turn.role,
            "content": turn.content,
            "tool_calls": [
                {"function": {"name": call.name, "arguments": call.arguments_json}}
                for call in turn.tool_calls
            ],
        }
        for turn in messages
    ]


def plain_tool(tool: common_pb2.ToolSpec) -> dict[str, Any]:
    parameters = json.loads(tool.parameters_json)
    function = {"name": tool.name, "description": tool.description, "parameters": parameters}
    return {"type": "function", "function": function}


@pytest.mark.parametrize(
    ("source", "word"),
    [
        ("{{ '<|im_start|>%s' | format(messages[0].content) }}", "im_start"),
        ("{{ messages[0].content ~ ('<|im_end|>' | e) | replace('x', 'y') | safe }}", None),
        ("{{ '<|im_end|>'.center(20) }}", "im_end"),
    ],
)
def test_a_template_whose_tokens_get_lost_is_told_at_the_start(
    tmp_path: Path, tokenizer: Tokenizer, source: str, word: str | None
) -> None:
    (tmp_path / "chat_template.jinja").write_text(source)
    template = ChatTemplate(tmp_path)
    if word is None:
        template.check(tokenizer.misplaced)
        return
    with pytest.raises(TreniError, match=word) as caught:
        template.check(tokenizer.misplaced)
    assert caught.value.kind == "checkpoint_unsupported"


def test_a_template_that_refuses_everything_is_not_judged(tmp_path: Path, tokenizer: Tokenizer) -> None:
    (tmp_path / "chat_template.jinja").write_text("{{ raise_exception('no') }}")
    ChatTemplate(tmp_path).check(tokenizer.misplaced)

"""Text to tokens and back, and conversations to prompts."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime_svc.random_checkpoint import Shape, write_random_checkpoint
from runtime_svc.template import ChatTemplate
from runtime_svc.tokens.provenance import written
from runtime_svc.tokens.tokenizer import Tokenizer
from tests.runtime_svc.requests import message, tool
from treni.errors import TreniError
from treni.v1 import common_pb2


@pytest.fixture(scope="module")
def tokenizer(random_directory: Path) -> Tokenizer:
    return Tokenizer(random_directory)


@pytest.fixture(scope="module")
def template(random_directory: Path) -> ChatTemplate:
    return ChatTemplate(random_directory)


@given(text=st.text())
def test_text_survives_the_round_trip(tokenizer: Tokenizer, text: str) -> None:
    stream = tokenizer.stream()
    pieces = [stream.feed(token) for token in tokenizer.encode(text)] + [stream.finish()]
    assert "".join(pieces) == text
    assert not any("\ufffd" in piece for piece in pieces) or "\ufffd" in text


def test_incomplete_characters_are_held_back(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("é😀")
    stream = tokenizer.stream()
    assert [stream.feed(token) for token in ids] == ["", "é", "", "", "", "😀"]
    stream = tokenizer.stream()
    assert [stream.feed(token) for token in ids[:4]] == ["", "é", "", ""]
    assert stream.finish() == "\ufffd"


def test_control_tokens_are_not_text_and_markers_are(tokenizer: Tokenizer) -> None:
    assert tokenizer.control == {"<|endoftext|>", "<|im_start|>", "<|im_end|>"}
    stream = tokenizer.stream()
    ids = tokenizer.encode(written("<tool_call>a<|im_start|>b</tool_call>"))
    assert len(ids) == 5
    assert "".join(map(stream.feed, ids)) == "<tool_call>ab</tool_call>"


def test_ids_beyond_the_tokenizer_are_silent(tokenizer: Tokenizer) -> None:
    assert tokenizer.stream().feed(10**6) == ""


def call(arguments_json: str) -> common_pb2.ToolCall:
    return common_pb2.ToolCall(name="f", arguments_json=arguments_json)


def test_arguments_stand_in_the_prompt_as_they_were_written(template: ChatTemplate) -> None:
    written = '{"x":  1.50,   "é": "ü"}'
    prompt = template.render([message("", role="assistant", tool_calls=[call(written)])], [])
    assert f'"arguments": {written}}}' in prompt


def test_tools_are_rendered_unescaped_in_their_own_order(template: ChatTemplate) -> None:
    spec = tool(parameters_json='{"type": "object", "b": "<é>", "a": 1}')
    prompt = template.render([message("hello")], [spec])
    assert '"parameters": {"type": "object", "b": "<é>", "a": 1}' in prompt
    assert prompt.endswith("<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n")


QWEN25 = (
    "{% for m in messages %}{% for c in m.tool_calls or [] %}"
    "{{ c.function.arguments | tojson }}{% endfor %}{% endfor %}"
)
QWEN3 = QWEN25.replace(
    "{{ c.function.arguments | tojson }}",
    "{% if c.function.arguments is string %}{{ c.function.arguments }}"
    "{% else %}{{ c.function.arguments | tojson }}{% endif %}",
)


@pytest.mark.parametrize("source", [QWEN25, QWEN3])
@pytest.mark.parametrize("place", ["chat_template.jinja", "tokenizer_config.json"])
def test_both_families_write_arguments_once(tmp_path: Path, source: str, place: str) -> None:
    value = source if place.endswith("jinja") else json.dumps({"chat_template": source})
    (tmp_path / place).write_text(value)
    rendered = ChatTemplate(tmp_path).render(
        [message("", role="assistant", tool_calls=[call('{"x": 1}')])], []
    )
    assert rendered == '{"x": 1}'


@pytest.mark.parametrize(
    "source",
    [
        "{{ raise_exception('no system turn') }}",
        "{{ messages.append(1) }}",
        "{{ ''.__class__.__mro__ }}{{ messages.missing.deeper }}",
    ],
)
def test_a_template_that_refuses_or_does_harm_is_a_refusal(tmp_path: Path, source: str) -> None:
    (tmp_path / "chat_template.jinja").write_text(source)
    with pytest.raises(TreniError) as caught:
        ChatTemplate(tmp_path).render([message("x")], [])
    assert caught.value.kind == "conversation_refused"


def test_special_tokens_may_be_named_by_the_template(tmp_path: Path) -> None:
    config = {"eos_token": {"content": "<end>"}, "chat_template": "{{ messages[0].content }}{{ eos_token }}"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    assert ChatTemplate(tmp_path).render([message("x")], []) == "x<end>"


def test_a_tokenizer_of_another_kind(tmp_path: Path) -> None:
    write_random_checkpoint(tmp_path, Shape())
    path = tmp_path / "tokenizer.json"
    value = json.loads(path.read_text())
    value["decoder"] = {"type": "WordPiece", "prefix": "##", "cleanup": True}
    path.write_text(json.dumps(value))
    with pytest.raises(TreniError, match="byte-level"):
        Tokenizer(tmp_path)

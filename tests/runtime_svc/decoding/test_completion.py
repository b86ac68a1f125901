"""Completions token by token: thoughts and calls are told by their ids where the checkpoint has ids for them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime_svc.decoding.completion import Completed, Completion
from runtime_svc.decoding.generation import Generation
from runtime_svc.ops import Sampled
from runtime_svc.template import ChatTemplate
from runtime_svc.tokens.provenance import SPOKEN, Traced
from runtime_svc.tokens.tokenizer import Tokenizer
from runtime_svc.toolcalls import parse_blocks
from tests.runtime_svc.requests import generate_request, message
from tests.runtime_svc.runners import Heard
from treni.v1 import common_pb2, inference_pb2

CALL = '<tool_call>\n{"name": "f", "arguments": {"x": 1}}\n</tool_call>'


@pytest.fixture(scope="module")
def by_id(random_directory: Path) -> Tokenizer:
    return Tokenizer(random_directory)


@pytest.fixture(scope="module")
def by_spelling(random_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    """The same without tokens for the markers."""
    directory = tmp_path_factory.mktemp("spelled") / "small"
    shutil.copytree(random_directory, directory)
    path = directory / "tokenizer.json"
    value = json.loads(path.read_text())
    value["added_tokens"] = [token for token in value["added_tokens"] if token["special"]]
    path.write_text(json.dumps(value))
    tokenizer = Tokenizer(directory)
    assert tokenizer.markers == {}
    return tokenizer


def complete(tokenizer: Tokenizer, text: str, *, thinking: bool = False) -> Completed:
    """The completion of a model that writes each tag as a token, where there is one."""
    completion = Completion(tokenizer, thinking=thinking)
    pieces = [completion.feed(token) for token in tokenizer.encode(Traced(text, SPOKEN))]
    completed = completion.finish()
    assert "".join(pieces) + completed.rest == completed.text
    return completed


@pytest.fixture(params=["by_id", "by_spelling"])
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    made: Tokenizer = request.getfixturevalue(request.param)
    return made


@pytest.mark.parametrize(
    ("text", "thinking", "said", "thought", "calls"),
    [
        ("Hello", False, "Hello", "", 0),
        ("<think>é</think>\n\nHello", False, "Hello", "é", 0),
        ("é\n</think>\n\nHello", True, "Hello", "é", 0),
        (f"<think>{CALL}</think>\nHello\n{CALL}", False, f"Hello\n{CALL}", CALL, 1),
        (f"{CALL}</think>Hello", True, "Hello", CALL, 0),
        (f"<think>{CALL}", False, "", CALL, 0),
        (f"maybe {CALL}", True, "", f"maybe {CALL}", 0),
        (f"```\n<think>\n</think>\n{CALL}\n```", False, f"```\n<think>\n</think>\n{CALL}\n```", "", 0),
    ],
)
def test_thinking_is_not_speaking(
    tokenizer: Tokenizer, text: str, thinking: bool, said: str, thought: str, calls: int
) -> None:
    completed = complete(tokenizer, text, thinking=thinking)
    assert completed.text == said
    assert completed.reading.thinking == thought
    assert len(parse_blocks(completed.reading.blocks).calls) == calls
    assert parse_blocks(completed.reading.blocks).malformed == ""


def test_what_a_model_spells_is_text_where_there_is_a_token_for_it(by_id: Tokenizer) -> None:
    text = f"<think>a</think>{CALL}"
    completion = Completion(by_id, thinking=False)
    said = "".join(map(completion.feed, by_id.encode(text)))
    completed = completion.finish()
    assert said + completed.rest == completed.text == completed.reading.content == text
    assert completed.reading.blocks == ()


@given(ids=st.lists(st.integers(0, 287), max_size=40), thinking=st.booleans())
def test_no_tokens_raise(by_id: Tokenizer, by_spelling: Tokenizer, ids: list[int], thinking: bool) -> None:
    for tokenizer in (by_id, by_spelling):
        completion = Completion(tokenizer, thinking=thinking)
        pieces = [completion.feed(token) for token in ids]
        completed = completion.finish()
        assert "".join(pieces) + completed.rest == completed.text


OPENED = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "<|im_start|>assistant\n"
)


@pytest.mark.parametrize(
    ("end", "opened"),
    [
        ("", False),
        ("<think>\n", True),
        ("<think>", True),
        ("<think>\n\n</think>\n\n", False),
        ("<think>\nOkay, ", None),
    ],
)
def test_whether_a_prompt_opens_a_thought(
    random_directory: Path, tmp_path: Path, tokenizer: Tokenizer, end: str, opened: bool | None
) -> None:
    (tmp_path / "chat_template.jinja").write_text(OPENED + end.replace("\n", "{{ '\\n' }}"))
    template = ChatTemplate(tmp_path)
    for talk in (
        [message("x")],
        [message("what is <think>?"), message("<think>", role="assistant"), message("</think> <think>")],
    ):
        prompt = tokenizer.encode(template.render(talk, []))
        # With words after it, a spelled tag could be anyone's.
        expected = bool(tokenizer.markers) if opened is None else opened
        assert tokenizer.opens_thought(prompt) == expected


def test_a_user_who_ends_with_the_tag_opens_nothing(
    random_directory: Path, by_id: Tokenizer, by_spelling: Tokenizer
) -> None:
    template = ChatTemplate(random_directory)
    for tokenizer in (by_id, by_spelling):
        assert not tokenizer.opens_thought(tokenizer.encode(template.render([message("<think>")], [])))
        assert not tokenizer.opens_thought([])


def test_a_generation_that_the_prompt_begins_with_a_thought(tmp_path: Path, tokenizer: Tokenizer) -> None:
    """As Qwen3's thinking checkpoints have it: only the end of the thought is generated."""
    (tmp_path / "chat_template.jinja").write_text(OPENED + "<think>\n{{ '\n' }}")
    template = ChatTemplate(tmp_path)
    request = generate_request("Only ask")
    heard = Heard(request)
    generation = Generation(
        request,
        tokenize=lambda request: tokenizer.encode(template.render(request.messages, request.tools)),
        tokenizer=tokenizer,
        capacity=1000,
        stamp=inference_pb2.GenerateFinish(model="played"),
        listener=heard,
        arrived_s=0.0,
    )
    generation.begin()
    for token in tokenizer.encode(Traced(f"It would be\n{CALL}\nbut no.\n</think>\n\nShall I?", SPOKEN)):
        generation.token(Sampled(id=token, logprob=0.0, entropy=0.0, margin=1.0), last=False)
    generation.end("stop", reused=0)
    finish = heard.finished
    assert (finish.reason, finish.text, finish.content) == ("stop", "Shall I?", "Shall I?")
    assert finish.thinking == f"It would be\n{CALL}\nbut no."
    assert (list(finish.tool_calls), finish.malformed_tool_call, finish.unfinished_thought) == ([], "", False)
    assert heard.pieces[0].startswith("S")


def test_a_thought_goes_back_to_the_template(tmp_path: Path) -> None:
    (tmp_path / "chat_template.jinja").write_text(
        "{% for m in messages %}{% if m.reasoning_content is defined %}[{{ m.reasoning_content }}]{% endif %}"
        "{{ m.content }};{% endfor %}"
    )
    said = common_pb2.Message(role="assistant", content="b", thinking="hm")
    assert ChatTemplate(tmp_path).render([message("a"), said], []) == "a;[hm]b;"

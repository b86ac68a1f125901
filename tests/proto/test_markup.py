"""How a completion is meant: what of it was thought, said, quoted and called."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime_svc.toolcalls import parse_tool_calls
from treni.markup import END_THINK, TAGS, THINK, Speech, Spelling, Tag, read, spelled, unfinished

CALL = '<tool_call>\n{"name": "f", "arguments": {"x": 1}}\n</tool_call>'


@pytest.mark.parametrize(
    ("text", "thinking", "content", "calls"),
    [
        ("plain", "", "plain", 0),
        (f"<think>a {CALL} b</think>5.", f"a {CALL} b", "5.", 0),
        (f"<think>a {CALL}</think>{CALL}", f"a {CALL}", "", 1),
        (f"\n <think>\na\n</think>\n\nSo:\n{CALL}", "a", "So:", 1),
        # The prompt has opened it, or nobody has: what comes before the end was thought all the same.
        (f"a {CALL} b</think>\n\n5.", f"a {CALL} b", "5.", 0),
        ("a</think>", "a", "", 0),
        ("</tool_call><tool_call>a</think>b</tool_call>", "</tool_call><tool_call>a", "b</tool_call>", 0),
        # Without an end.
        (f"<think>a {CALL}", f"a {CALL}", "", 0),
        ("<think>", "", "", 0),
        (f"Right.\n<think>or {CALL}", f"or {CALL}", "Right.\n", 0),
        # Twice.
        ("<think>a</think>b\n<think>c</think>d", "a</think>b\n<think>c", "d", 0),
        # Quoted ends end nothing.
        ("<think>I close with `</think>` now</think>5.", "I close with `</think>` now", "5.", 0),
        ("It ends with `</think>`, or ``a ` </think>``.", "", "It ends with `</think>`, or ``a ` </think>``.", 0),
        ("```\na </think> b\n```\nSo.", "", "```\na </think> b\n```\nSo.", 0),
        # A mention opens nothing.
        ("Put <think> first.", "", "Put <think> first.", 0),
        ("`<think>` is a tag", "", "`<think>` is a tag", 0),
        ("<think>I could use <tool_call> here.</think>4", "I could use <tool_call> here.", "4", 0),
    ],
)  # fmt: skip
def test_what_is_thought_is_neither_said_nor_called(
    text: str, thinking: str, content: str, calls: int
) -> None:
    reading = read(text)
    assert (reading.thinking, reading.content, len(reading.blocks)) == (thinking, content, calls)
    parsed = parse_tool_calls(text)
    assert (len(parsed.calls), parsed.malformed) == (calls, "")


@pytest.mark.parametrize(
    "text",
    [
        "Wrap calls in `<tool_call>` tags.",
        f"For example `{CALL.replace(chr(10), ' ')}`.",
        f"For example:\n```xml\n{CALL}\n```\nThat is all.",
        f"~~~\n{CALL}\n~~~",
        f"````\n```\n{CALL}\n```\n````",
        f"```\n{CALL}",  # cut off within its fence
        "Put it between <tool_call> and </tool_call>, please.",
        "The <tool_call> tag opens a call.",
        "<tool_call> tags are for calls.",
    ],
)
def test_markup_that_is_quoted_or_mentioned_is_text(text: str) -> None:
    reading = read(text)
    assert (reading.content, reading.blocks, reading.thinking) == (text, (), "")
    assert parse_tool_calls(text) == parse_tool_calls("")


@pytest.mark.parametrize(
    ("text", "content"),
    [
        (f"Sure: {CALL}", "Sure: "),
        (f"`a` and `b`.\n{CALL}", "`a` and `b`."),
        (f"One ` alone.\n{CALL}", "One ` alone."),
        (f"```\ncode\n```\n{CALL}", "```\ncode\n```"),
        (f"Tags like `<tool_call>`.\n{CALL}", "Tags like `<tool_call>`."),
        (f"Mind <tool_call> tags.\n{CALL}", "Mind <tool_call> tags."),
    ],
)
def test_a_call_beside_code_is_a_call(text: str, content: str) -> None:
    reading = read(text)
    assert (reading.content, len(reading.blocks)) == (content, 1)
    assert len(parse_tool_calls(text).calls) == 1


@pytest.mark.parametrize(
    "word", ["</tool_call>", "<tool_call>", "</think>", "<think>", "`", "```", "\\n```\\n"]
)
def test_markup_in_the_arguments_is_theirs(word: str) -> None:
    text = f'<tool_call>{{"name": "f", "arguments": {{"x": "{word}"}}}}</tool_call>'
    parsed = parse_tool_calls(text + text)
    assert parsed.malformed == ""
    assert [call.arguments_json for call in parsed.calls] == [f'{{"x": "{word}"}}'] * 2
    assert read(text).content == ""


def test_told_by_ids_the_spelling_of_a_tag_is_text() -> None:
    text = f"<think>a</think>{CALL}"
    assert read(text, []).content == text
    end = Tag(name=END_THINK, start=text.index(END_THINK), spelled=False)
    assert read(text, [end]).content == CALL
    assert read(text, [end]).blocks == ()


def test_told_by_ids_a_call_that_is_none_is_malformed_wherever_it_stands() -> None:
    text = "The <tool_call> tag"
    tags = [Tag(name="<tool_call>", start=4, spelled=False)]
    assert [block.inside for block in read(text, tags).blocks] == [None]


PIECES = st.sampled_from(
    [*TAGS, CALL, "`", "```", "\n", "\n```\n", " ", "a", "<think", "</", "{", "}", '"', "\\", "<tool_call>{}"]
)
TEXT = st.lists(PIECES, max_size=14).map("".join)


@given(TEXT, st.booleans())
def test_no_text_is_lost_or_raises(text: str, thinking: bool) -> None:
    reading = read(text, thinking=thinking)
    assert reading.content in text
    for block in reading.blocks:
        assert text[block.start :].startswith("<tool_call>")
        assert block.inside is None or block.inside in text
    after = text.rpartition(END_THINK)[2]
    if THINK not in text and "`" not in text and CALL not in text and "{" not in text and END_THINK in text:
        assert reading.content in after


def passed_on(text: str, cuts: list[int], thinking: bool) -> str:
    """What of a completion is passed on, told by its characters, when it comes in pieces."""
    spelling, speech = Spelling((THINK, END_THINK)), Speech(thinking=thinking)
    places = sorted({cut % (len(text) + 1) for cut in cuts} | {0, len(text)})
    said = ""
    for start, end in itertools.pairwise(places):
        for part in spelling.feed(text[start:end]):
            said += speech.tag(part) if part in (THINK, END_THINK) else speech.text(part)
    return said + speech.text(spelling.finish()) + speech.finish()


@given(TEXT, st.lists(st.integers(0, 200)), st.booleans())
def test_what_is_passed_on_does_not_depend_on_the_pieces(text: str, cuts: list[int], thinking: bool) -> None:
    assert passed_on(text, cuts, thinking) == passed_on(text, [], thinking)


@given(
    st.lists(st.sampled_from(["a", "b\n", " ", "<tool_call>", "<", "é"]), max_size=9).map("".join),
    st.booleans(),
)
def test_what_is_passed_on_is_what_is_said(text: str, thinking: bool) -> None:
    whole = f"{text}</think>\n\n{text.lstrip()}" if thinking else f"<think>{text}</think> {text.lstrip()}"
    assert passed_on(whole, [], thinking) == text.lstrip()
    assert passed_on(text, [], False) == text
    assert passed_on(f"{text}", [], True) == ""


@given(TEXT)
def test_the_spelled_tags(text: str) -> None:
    tags = spelled(text)
    assert [text[tag.start : tag.end] for tag in tags] == [tag.name for tag in tags]
    assert len(tags) == sum(text.count(name) for name in TAGS)
    held = unfinished(text, TAGS)
    assert held == 0 or any(name.startswith(text[-held:]) for name in TAGS)

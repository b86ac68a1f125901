"""What a completion says, apart from what it thinks, quotes and calls: the one reading of a model's markup.

Markup is what stands in `<think>` and `<tool_call>` tags. Where the checkpoint has tokens for them the tags are told by
their ids, elsewhere by their characters. A tag in a code span or a code fence is quoted, and is text like any other.
"""

from __future__ import annotations

import functools
import json
import re
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

THINK, END_THINK = "<think>", "</think>"
CALL, END_CALL = "<tool_call>", "</tool_call>"
TAGS = (THINK, END_THINK, CALL, END_CALL)
_OPENS = "<"
"""What every tag begins with: a piece of a stream that has none of it, as most have not, is searched no further."""

_CODE = re.compile(r"^[ \t]*(?P<fence>`{3,}|~{3,})|(?P<ticks>`+)", re.MULTILINE)
_SPACE = re.compile(r"[ \t\r\n]*")
_JSON = json.JSONDecoder()


@dataclass(frozen=True, kw_only=True, slots=True)
class Tag:
    """A tag at `start` of a completion; `spelled` where only its characters say that it is one."""

    name: str
    start: int
    spelled: bool = True

    @property
    def end(self) -> int:
        """Where the text after the tag begins."""
        return self.start + len(self.name)


@dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """A tool call's place in a completion, and what stands between its tags; None where it is not closed."""

    start: int
    end: int
    inside: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """How a completion is meant.

    `thinking` is what was thought, `content` what is said before the first tool call, `blocks` are the tool calls.
    `open` tells that the completion ends in the middle of a thought.
    """

    thinking: str
    content: str
    blocks: tuple[Block, ...]
    open: bool


def spelled(text: str, names: Iterable[str] = TAGS) -> list[Tag]:
    """The tags of these names that the text spells, quoted ones too."""
    return [Tag(name=match[0], start=match.start()) for match in _any_of(tuple(names)).finditer(text)]


def read(text: str, tags: Sequence[Tag] | None = None, *, thinking: bool = False) -> Reading:
    """How a whole completion is meant; its `tags` in order, or those that it spells; `thinking` if it begins so.

    What stands before a `</think>` was thought, whether its beginning was seen or not: no call in it counts. Without
    an end, a thought goes to the end of the completion.
    """
    tags = spelled(text) if tags is None else tags
    at = begin = 0
    thought: int | None = 0 if thinking else None
    blocks: list[Block] = []
    while (index := bisect_left(tags, at, key=_start)) < len(tags):
        tag = tags[index]
        if thought is None and (code := _CODE.search(text, at, tag.start)) is not None:
            at = _after_code(text, code)
            continue
        at = tag.end
        if tag.name == END_THINK and (thought is None or text[tag.start - 1 : tag.start] != "`"):
            begin, thought = tag.end, None
            blocks.clear()
        elif thought is None and tag.name == THINK and _begins_line(text, tag.start, begin):
            thought = tag.start
        elif thought is None and tag.name == CALL:
            block = _block(text, tags, index, begin)
            if block is not None:
                blocks.append(block)
                at = block.end
    end = len(text) if thought is None else thought
    content = text[begin : blocks[0].start if blocks else end]
    return Reading(
        thinking=_thoughts(text[:begin] + text[end:]),
        content=(content.lstrip() if begin else content).removesuffix("\n" if blocks else ""),
        blocks=tuple(blocks),
        open=thought is not None,
    )


class Speech:
    """Passes on a completion as it comes, less what is known to be thought and the white space around it.

    White space at the beginning waits for the first word.
    """

    def __init__(self, *, thinking: bool = False) -> None:
        self._thinking = self._thought = thinking
        self._begun = False
        # In pieces, as long lines come in many: joined each time, they would cost the square of their length.
        self._blank: list[str] = []
        self._line: list[str] = []
        self._fence = ""

    @property
    def thinking(self) -> bool:
        """Whether what comes next is thought, unless it ends the thought."""
        return self._thinking

    def text(self, text: str) -> str:
        """What of the next text is said."""
        if "\n" in text:
            first, *lines, last = text.split("\n")
            for line in ("".join((*self._line, first)), *lines):
                self._end_line(line)
            self._line = [last]
        else:
            self._line.append(text)
        if self._thinking:
            return ""
        if self._begun:
            return text
        self._blank.append(text)
        self._begun = not (text == "" or text.isspace())
        return self.finish() if self._begun else ""

    def tag(self, name: str) -> str:
        """What of the next tag is said: "" for one that begins or ends a thought, and within one."""
        if self._thinking and name == END_THINK and not self._quotes():
            self._thinking = self._begun = False
            self._line = []
            return ""
        if not self._thinking and name == THINK and not self._fence and not any(map(str.strip, self._line)):
            self._thinking = self._thought = True
            self._blank = []
            return ""
        return self.text(name)

    def finish(self) -> str:
        """What is left to say at the end: white space, if all of the completion is."""
        blank, self._blank = "".join(self._blank), []
        return blank.lstrip() if self._thought else blank

    def _quotes(self) -> bool:
        """Whether the line ends with a back-tick, so that a tag after it is quoted."""
        return next((piece for piece in reversed(self._line) if piece), "").endswith("`")

    def _end_line(self, line: str) -> None:
        code = None if self._thinking else _CODE.match(line)
        if code is None or code["fence"] is None:
            return
        mark = code["fence"]
        if not self._fence:
            self._fence = mark
        elif mark.startswith(self._fence) and not line[code.end() :].strip():
            self._fence = ""


class Spelling:
    """Cuts text that comes in pieces into text and the tags that it spells; the beginning of a tag waits.

    The tags are those of these names, each of which begins as all tags do.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._names = tuple(names)
        self._held = ""

    def feed(self, text: str) -> list[str]:
        """What can be told now: texts and tags, in order."""
        self._held += text
        if _OPENS not in self._held:
            text, self._held = self._held, ""
            return [text] if text else []
        parts: list[str] = []
        at = 0
        for tag in spelled(self._held, self._names):
            parts += [self._held[at : tag.start], tag.name]
            at = tag.end
        keep = unfinished(self._held[at:], self._names)
        cut = len(self._held) - keep
        parts.append(self._held[at:cut])
        self._held = self._held[cut:]
        return [part for part in parts if part]

    def finish(self) -> str:
        """What was waiting, which is text."""
        held, self._held = self._held, ""
        return held


def unfinished(text: str, names: Iterable[str]) -> int:
    """The length of the longest end of the text that begins one of these names of tags and is not all of it."""
    if _OPENS not in text:
        return 0
    begun = _beginning_of(tuple(names)).search(text)
    return 0 if begun is None else len(text) - begun.start()


# Compiled once: each piece of a stream is searched while its run waits.
@functools.cache
def _any_of(names: tuple[str, ...]) -> re.Pattern[str]:
    """What matches any of the names."""
    return re.compile("|".join(map(re.escape, names)) or r"(?!)")


@functools.cache
def _beginning_of(names: tuple[str, ...]) -> re.Pattern[str]:
    """What matches the beginning of any of the names, less than all of it, at the end of a text."""
    begun = (re.escape(name[:size]) for name in names for size in range(1, len(name)))
    return re.compile(f"(?:{'|'.join(begun) or '(?!)'})\\Z")


def _start(tag: Tag) -> int:
    return tag.start


def _begins_line(text: str, at: int, begin: int) -> bool:
    line = text[max(text.rfind("\n", 0, at) + 1, begin) : at]
    return not line.strip()


def _after_code(text: str, code: re.Match[str]) -> int:
    """Where text goes on after a fence or a code span; right after back-ticks that open neither."""
    fence = code["fence"]
    if fence is None:
        line = text.find("\n", code.end())
        ticks = re.compile(rf"(?<!`){code['ticks']}(?!`)")
        close = ticks.search(text, code.end(), len(text) if line < 0 else line)
        return code.end() if close is None else close.end()
    closing = re.compile(rf"^[ \t]*{fence[0]}{{{len(fence)},}}[ \t]*$", re.MULTILINE)
    closed = closing.search(text, code.end())
    return len(text) if closed is None else closed.end()


def _block(text: str, tags: Sequence[Tag], index: int, begin: int) -> Block | None:
    """The tool call that a tag opens; None for a tag that is only mentioned."""
    tag = tags[index]
    inner = _skip(text, tag.end)
    try:
        _, end = _JSON.raw_decode(text, inner)
    except (ValueError, RecursionError):
        pass
    else:
        # A whole JSON value: tags in its strings are no tags.
        place = _skip(text, end)
        close = bisect_left(tags, place, index + 1, key=_start)
        if close < len(tags) and tags[close].start == place and tags[close].name == END_CALL:
            return Block(start=tag.start, end=tags[close].end, inside=text[tag.end : place])
    later = (tags[at] for at in range(index + 1, len(tags)))
    following = next((other for other in later if other.name != THINK), None)
    thought = following is not None and following.name == END_THINK
    if thought:
        following = next((other for other in later if other.name in (CALL, END_CALL)), None)
    closed = following is not None and following.name == END_CALL
    if tag.spelled and text[inner : inner + 1] not in ("{", "["):
        alone = _begins_line(text, tag.start, begin) or text.endswith(END_CALL, 0, tag.start)
        if thought or not alone or not (closed or inner == len(text)):
            return None
    if following is None:
        return Block(start=tag.start, end=len(text), inside=None)
    if closed:
        return Block(start=tag.start, end=following.end, inside=text[tag.end : following.start])
    return Block(start=tag.start, end=following.start, inside=None)


def _thoughts(text: str) -> str:
    """Thoughts without their tags."""
    return text.strip().removeprefix(THINK).removesuffix(END_THINK).strip("\n")


def _skip(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    assert match is not None
    return match.end()

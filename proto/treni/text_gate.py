"""What of a completion the user may see while it streams: what is said, never a thought or a tool call."""

from __future__ import annotations

from treni.markup import CALL, END_THINK, THINK, Reading, Speech, Spelling, read
from treni.v1 import inference_pb2

TOOL_CALL_MARK = CALL.removesuffix(">")
_THOUGHT = (THINK, END_THINK)


class TextGate:
    """Passes a turn's text on as it comes, up to the first tool call or what might be one.

    White space before the first word waits for that word: a turn that is only a tool call shows nothing. A thought
    that the text spells out from its beginning is not shown.
    """

    def __init__(self) -> None:
        self._spelling = Spelling((*_THOUGHT, TOOL_CALL_MARK))
        self._speech = Speech()
        self._shown: list[str] = []
        self._closed = False

    def feed(self, text: str) -> str:
        """The text that is now safe to show; "" for none."""
        if self._closed:
            return ""
        ready = ""
        for part in self._spelling.feed(text):
            if part == TOOL_CALL_MARK and not self._speech.thinking:
                self._closed = True
                break
            ready += self._speech.tag(part) if part in _THOUGHT else self._speech.text(part)
        self._shown.append(ready)
        return ready

    def rest(self, content: str) -> str:
        """What is left to show of a finished turn, in which this is said before any tool call.

        It is "" where something else was shown, which only the end of the turn tells to have been a thought.
        """
        shown = "".join(self._shown)
        if content.isspace() or not content.startswith(shown):
            return ""
        return content[len(shown) :]


def reading_of(finish: inference_pb2.GenerateFinish) -> Reading:
    """How a turn is meant: as the model's server tells it, or read off the text where it does not."""
    if not finish.HasField("content"):
        return read(finish.text)
    return Reading(
        thinking=finish.thinking, content=finish.content, blocks=(), open=finish.unfinished_thought
    )

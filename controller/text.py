"""What of a completion the user may see while it streams: the text around tool calls, never a call itself."""

from __future__ import annotations

TOOL_CALL_MARK = "<tool_call"


class TextGate:
    """Passes a turn's text on as it comes, up to the first tool call.

    White space before the first word waits for that word: a turn that is only a tool call shows nothing.
    """

    def __init__(self) -> None:
        self._held = ""
        self._begun = False
        self._closed = False

    def feed(self, text: str) -> str:
        """The text that is now safe to show; "" for none."""
        self._held += text
        if self._closed:
            return ""
        mark = self._held.find(TOOL_CALL_MARK)
        self._closed = mark >= 0
        cut = mark if self._closed else len(self._held) - _overlap(self._held)
        ready = self._held[:cut]
        if not self._begun and (not ready or ready.isspace()):
            return ""
        self._begun = True
        self._held = self._held[cut:]
        return ready

    def rest(self) -> str:
        """What was held back, for a turn that turned out to hold no tool call."""
        return self._held


def before_tool_calls(completion: str) -> str:
    """What a turn says before its first tool call, less the newline that chat templates put between the two."""
    return completion.partition(TOOL_CALL_MARK)[0].removesuffix("\n")


def _overlap(text: str) -> int:
    """The length of the longest end of `text` that begins a tool call's mark."""
    start = text.rfind("<", -len(TOOL_CALL_MARK))
    return len(text) - start if start >= 0 and TOOL_CALL_MARK.startswith(text[start:]) else 0

"""Where a text ends because the request said so: stop strings, found however the text is cut into pieces."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Stopped:
    """The end of a text: `passed` stands before the string `stop`, complete `read` characters into its last piece."""

    passed: str
    stop: str
    read: int


class Stops:
    """Passes a text on as it comes, up to the first of the stop strings; what may begin one of them waits.

    The first is the one that is complete first, and of several that are complete at the same character the longest.
    """

    def __init__(self, stops: Iterable[str]) -> None:
        self._matchers = [_Matcher(stop) for stop in stops]
        self._held = ""

    def feed(self, text: str) -> str | Stopped:
        """What of the text so far is passed on now, or where it ends."""
        matchers = self._matchers
        if not matchers:
            return text
        for index, character in enumerate(text):
            complete = [matcher for matcher in matchers if matcher.feed(character)]
            if complete:
                stop = max((matcher.stop for matcher in complete), key=len)
                before = self._held + text[: index + 1]
                return Stopped(passed=before[: len(before) - len(stop)], stop=stop, read=index + 1)
        held = self._held + text
        cut = len(held) - max(matcher.matched for matcher in matchers)
        self._held = held[cut:]
        return held[:cut]

    def finish(self) -> str:
        """What was waiting, which begins no stop string any more: something else comes."""
        held, self._held = self._held, ""
        for matcher in self._matchers:
            matcher.matched = 0
        return held


class _Matcher:
    """How much of the stop string the text ends with, character by character (Knuth, Morris and Pratt 1977)."""

    def __init__(self, stop: str) -> None:
        self.stop = stop
        self.matched = 0
        self._shorter = [0] * len(stop)  # of each beginning, the longest other beginning that it ends with
        length = 0
        for index in range(1, len(stop)):
            while length and stop[index] != stop[length]:
                length = self._shorter[length - 1]
            length += stop[index] == stop[length]
            self._shorter[index] = length

    def feed(self, character: str) -> bool:
        """Whether the stop string is complete with this character. Not to be asked again then."""
        while self.matched and self.stop[self.matched] != character:
            self.matched = self._shorter[self.matched - 1]
        self.matched += self.stop[self.matched] == character
        return self.matched == len(self.stop)

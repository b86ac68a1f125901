"""What a completion is held to, token by token: a grammar, and how long it may think."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from runtime_svc.decoding.completion import Completion
from runtime_svc.ops import Allowed


class Matcher(Protocol):
    """Where a completion stands in its grammar."""

    def allowed(self) -> Allowed | None:
        """The tokens that may come next; None for any. Raises `TreniError` where that can't be found out."""

    def accept(self, token: int) -> None:
        """Goes on by a token that was allowed."""


class Guide:
    """Says which tokens may come next. After `budget` tokens of thought (0: any number) those of `closing` come.

    `vocabulary` is the number of tokens, `cut` whether a thought was closed so, `holds` whether there is a grammar.
    """

    def __init__(
        self, *, vocabulary: int, matcher: Matcher | None = None, closing: Sequence[int] = (), budget: int = 0
    ) -> None:
        self.cut = False
        self.holds = matcher is not None
        self._vocabulary = vocabulary
        self._matcher = matcher
        self._closing = closing
        self._budget = budget
        self._forced: deque[int] = deque()

    def allowed(self) -> Allowed | None:
        """The tokens that may come next, (ceil(vocabulary / 32),) uint32; None for any."""
        if self._forced:
            return only(self._forced[0], self._vocabulary)
        return None if self._matcher is None else self._matcher.allowed()

    def accept(self, token: int, completion: Completion) -> None:
        """Goes on by the token, which the completion has read."""
        if self._forced:
            self._forced.popleft()
        if self._matcher is not None:
            self._matcher.accept(token)
        thought = completion.thinking_tokens
        if completion.thinking and not self.cut and self._budget and thought >= self._budget:
            self.cut = True
            self._forced.extend(self._closing)


def only(token: int, vocabulary: int) -> Allowed:
    """Words that allow one token."""
    words = np.zeros(-(-vocabulary // 32), np.uint32)
    words[token // 32] = np.uint32(1 << token % 32)
    return words

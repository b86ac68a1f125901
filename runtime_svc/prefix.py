"""Keeps the KV caches of recent conversations, so that their next turn prefills only what is new."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

from runtime_svc.decoder import Cache


class PrefixStore:
    """Caches by key, least recently used first out; bounded in number and in bytes.

    A cache is lent out by `take` and comes back by `give`: while lent it is nobody else's, and a failed
    generation that never gives it back loses it and nothing more. A key sees only what was given under it.
    """

    def __init__(self, new: Callable[[], Cache], *, max_sequences: int, max_bytes: int) -> None:
        self._new = new
        self._max_sequences = max_sequences
        self._max_bytes = max_bytes
        self._kept: OrderedDict[str, Cache] = OrderedDict()

    @property
    def nbytes(self) -> int:
        """Bytes of all kept caches."""
        return sum(cache.nbytes for cache in self._kept.values())

    def __len__(self) -> int:
        return len(self._kept)

    def take(self, key: str, prompt: Sequence[int]) -> Cache:
        """A cache that holds the longest known prefix of the prompt, less than all of it.

        At least one prompt token is left out: its logits are what the next token is drawn from. The key ""
        knows nothing.
        """
        cache = self._kept.pop(key, None)
        if cache is None:
            return self._new()
        cache.truncate(min(common_prefix(cache.tokens, prompt), len(prompt) - 1))
        return cache

    def give(self, key: str, cache: Cache) -> None:
        """Keeps the cache under the key, and forgets the oldest ones over the bounds."""
        if not key:
            return
        self._kept[key] = cache
        self._kept.move_to_end(key)
        while len(self._kept) > self._max_sequences or self.nbytes > self._max_bytes:
            self._kept.popitem(last=False)


def common_prefix(first: Sequence[int], second: Sequence[int]) -> int:
    """How many leading elements the two share."""
    for index, (a, b) in enumerate(zip(first, second, strict=False)):
        if a != b:
            return index
    return min(len(first), len(second))

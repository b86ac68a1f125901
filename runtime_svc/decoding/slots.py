"""Which sequence holds which KV slot, and whose prefix a new one may reuse. Knows tokens, never a tensor."""

from __future__ import annotations

from array import array
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

from runtime_svc.models.architecture import State

BLOCK = 16
"""Tokens to a link of the hash chain: how finely prefixes are looked up, and how finely they are copied."""

_DIGEST_BYTES = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class Placement:
    """Where a sequence runs: in `slot`, whose first `reused` positions hold its prompt's already.

    With `source` they first have to be copied from that slot, which is busy.
    """

    slot: int
    reused: int
    source: int | None = None


@dataclass(slots=True)
class _Slot:
    """What one slot holds: `tokens` in order, and `chain`, the digest of the key and then one for each full block.

    Both are empty when nobody may reuse it. `beyond` counts tokens that the state has read after those, and nobody
    remembers.
    """

    busy: bool = False
    tokens: list[int] = field(default_factory=list)
    chain: list[bytes] = field(default_factory=list)
    beyond: int = 0

    @property
    def read(self) -> int:
        """Tokens that the state has read."""
        return len(self.tokens) + self.beyond


class SlotTable:
    """The slots of a runner: each has one owner or none, and remembers its last tokens until it is taken over.

    What may be reused is found by a chain of hashes: the first is of the cache key, each next one of the one
    before and a block of `BLOCK` tokens. Equal links therefore mean the same key and the same tokens up to there,
    and a sequence under one key never finds another key's. The key "" has no chain: it reuses nothing, and
    nothing of it is reused.

    How much of what is found can be gone on from is asked of the kind of `state`, which need not be one that can be
    cut anywhere.
    """

    def __init__(self, count: int, state: State) -> None:
        self._state = state
        self._slots = [_Slot() for _ in range(count)]
        self._idle: OrderedDict[int, None] = OrderedDict.fromkeys(range(count))  # least recently used first
        self._holders: dict[bytes, set[int]] = {}

    @property
    def in_use(self) -> int:
        """Slots that have an owner."""
        return len(self._slots) - len(self._idle)

    def tokens(self, slot: int) -> Sequence[int]:
        """What the slot holds, as far as it may be reused."""
        return tuple(self._slots[slot].tokens)

    def take(self, key: str, prompt: Sequence[int]) -> Placement:
        """Gives a sequence a slot, where the longest known prefix of its prompt costs least. One must be idle.

        At least one prompt token is left to compute: its logits are what the next token is drawn from. An idle
        slot is taken over in place, as far as its state can go on from, and what it held beyond is forgotten. Where
        a busy one has more, whole blocks are to be copied from it into the idle slot that was used least recently.
        """
        usable = prompt[: len(prompt) - 1]
        chain = list(_chain(key, usable)) if key else []
        mine, kept = self._longest_idle(chain, usable)
        source, copied = self._longest_busy(chain)
        if source is not None and copied > kept:
            slot, kept = next(iter(self._idle)), copied
            self._forget(slot)
            self._slots[slot].tokens = list(usable[:kept])
        elif mine is not None and kept > 0:
            slot, source = mine, None
        else:
            slot, kept, source = next(iter(self._idle)), 0, None
            self._forget(slot)
        self._keep(slot, kept, chain)
        self._slots[slot].busy = True
        del self._idle[slot]
        return Placement(slot=slot, reused=kept, source=source)

    def append(self, slot: int, tokens: Sequence[int]) -> None:
        """The slot now holds the keys and values of these tokens too. Nothing to remember under the key ""."""
        held = self._slots[slot]
        if not held.chain:
            return
        held.tokens.extend(tokens)
        while len(held.chain) <= len(held.tokens) // BLOCK:
            end = len(held.chain) * BLOCK
            self._link(slot, _next(held.chain[-1], held.tokens[end - BLOCK : end]))

    def advanced(self, slot: int, count: int) -> None:
        """The slot's state has read, or may have read, `count` tokens that are not to be remembered."""
        self._slots[slot].beyond += count

    def release(self, slot: int, *, forget: bool = False) -> None:
        """The owner is done. With `forget` nobody may reuse what the slot holds."""
        held = self._slots[slot]
        assert held.busy
        held.busy = False
        self._idle[slot] = None
        if forget or not held.tokens:
            # Worth nothing to anybody, so the next to be taken.
            self._forget(slot)
            self._idle.move_to_end(slot, last=False)

    def _longest_idle(self, chain: Sequence[bytes], prompt: Sequence[int]) -> tuple[int | None, int]:
        """The idle slot with the longest common prefix, and its tokens; of equals, the one that holds least beyond."""
        best: tuple[int, int, int] | None = None
        for depth in reversed(range(len(chain))):
            start = depth * BLOCK
            for slot in self._holders.get(chain[depth], ()):
                held = self._slots[slot]
                if not held.busy:
                    shared = start + common_prefix(held.tokens[start:], prompt[start:])
                    length = self._state.resumable(held.read, shared)
                    candidate = (length, -len(held.tokens), slot)
                    best = candidate if best is None else max(best, candidate)
            if best is not None and best[0] >= start:  # who is not found before a smaller depth shares less
                return best[2], best[0]
        return None, 0

    def _longest_busy(self, chain: Sequence[bytes]) -> tuple[int | None, int]:
        """The busy slot of whose whole blocks in common most can be gone on from, and how many tokens those are."""
        best: tuple[int, int] | None = None
        for depth in reversed(range(1, len(chain))):
            for slot in self._holders.get(chain[depth], ()):
                held = self._slots[slot]
                if held.busy:
                    # Its state is one token further than is known here, at least, when it is copied.
                    length = self._state.resumable(held.read + 1, depth * BLOCK)
                    best = (length, slot) if best is None else max(best, (length, slot))
            if best is not None and best[0] >= (depth - 1) * BLOCK:
                break
        return (None, 0) if best is None or best[0] == 0 else (best[1], best[0])

    def _keep(self, slot: int, length: int, chain: Sequence[bytes]) -> None:
        """Shortens what the slot holds to `length` tokens, all of them of the prompt that has this chain."""
        held = self._slots[slot]
        del held.tokens[length:]
        held.beyond = 0
        blocks = length // BLOCK
        self._unlink(slot, blocks + 1)
        for digest in chain[len(held.chain) : blocks + 1]:
            self._link(slot, digest)

    def _forget(self, slot: int) -> None:
        self._slots[slot].tokens.clear()
        self._slots[slot].beyond = 0
        self._unlink(slot, 0)

    def _link(self, slot: int, digest: bytes) -> None:
        self._slots[slot].chain.append(digest)
        self._holders.setdefault(digest, set()).add(slot)

    def _unlink(self, slot: int, depth: int) -> None:
        """Takes the links from `depth` on out of the slot's chain."""
        held = self._slots[slot]
        for digest in held.chain[depth:]:
            holders = self._holders[digest]
            holders.discard(slot)
            if not holders:
                del self._holders[digest]
        del held.chain[depth:]


def common_prefix(first: Sequence[int], second: Sequence[int]) -> int:
    """How many leading elements the two share."""
    for index, (a, b) in enumerate(zip(first, second, strict=False)):
        if a != b:
            return index
    return min(len(first), len(second))


def _chain(key: str, tokens: Sequence[int]) -> Iterator[bytes]:
    """The key's digest, then one for each full block of the tokens."""
    digest = blake2b(key.encode(), digest_size=_DIGEST_BYTES).digest()
    yield digest
    for end in range(BLOCK, len(tokens) + 1, BLOCK):
        digest = _next(digest, tokens[end - BLOCK : end])
        yield digest


def _next(before: bytes, block: Sequence[int]) -> bytes:
    return blake2b(before + array("i", block).tobytes(), digest_size=_DIGEST_BYTES).digest()

"""What a model keeps of the tokens that it has read, and from where it can go on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from runtime_svc.models.architecture import ModelConfig


class State(Protocol):
    """The kind of state that one sequence has in a slot. Pure: it knows lengths, never a tensor."""

    def resumable(self, held: int, length: int) -> int:
        """The longest prefix, at most `length` tokens, that a state which has read `held` tokens can go on from.

        A backend that is asked to prefill or to copy from there needs no token before it. 0 is always possible: it
        stands for an empty state.
        """

    def slot_bytes(self, config: ModelConfig, capacity: int, element_bytes: int) -> int:
        """Bytes of a slot that holds `capacity` tokens, where an element takes `element_bytes`."""


@dataclass(frozen=True, slots=True)
class KeysAndValues:
    """A key and a value for each token and layer: cut after any token, the rest is a state like any other."""

    def resumable(self, held: int, length: int) -> int:
        """Any length up to what is held."""
        return min(held, length)

    def slot_bytes(self, config: ModelConfig, capacity: int, element_bytes: int) -> int:
        """Bytes of the keys and values of `capacity` tokens in every layer."""
        return config.layers * 2 * config.kv_heads * config.head_dim * capacity * element_bytes


KEYS_AND_VALUES = KeysAndValues()
"""The state of every decoder that attends to all that it has read."""

"""The kinds of state that models keep of the tokens that they have read."""

from __future__ import annotations

from dataclasses import dataclass

from runtime_svc.models.architecture import ModelConfig


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

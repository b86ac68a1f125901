"""The tensors of a decoder by what they are for: the one list of names and shapes that everything else goes by."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One tensor that a checkpoint must have: its name and shape, matrices as (outputs, inputs)."""

    name: str
    shape: tuple[int, ...]

    @property
    def elements(self) -> int:
        """How many values it has."""
        return math.prod(self.shape)


@dataclass(frozen=True, kw_only=True, slots=True)
class BlockTensors:
    """The tensors of one block, in the order of a checkpoint; None for those that its architecture lacks."""

    attention_gain: TensorSpec
    q: TensorSpec
    q_bias: TensorSpec | None
    k: TensorSpec
    k_bias: TensorSpec | None
    v: TensorSpec
    v_bias: TensorSpec | None
    q_gain: TensorSpec | None
    k_gain: TensorSpec | None
    o: TensorSpec
    ffn_gain: TensorSpec
    gate: TensorSpec
    up: TensorSpec
    down: TensorSpec

    def __iter__(self) -> Iterator[TensorSpec]:
        """Those that there are, in order."""
        for field in fields(self):
            spec = getattr(self, field.name)
            if spec is not None:
                yield spec


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelTensors:
    """The tensors of a decoder. `head` is None where the embedding serves as the head too."""

    embedding: TensorSpec
    blocks: tuple[BlockTensors, ...]
    final_gain: TensorSpec
    head: TensorSpec | None

    def __iter__(self) -> Iterator[TensorSpec]:
        """Every tensor once, in the order of a checkpoint."""
        yield self.embedding
        for block in self.blocks:
            yield from block
        yield self.final_gain
        if self.head is not None:
            yield self.head

    @property
    def parameters(self) -> int:
        """How many weights there are; a tied head counts once."""
        return sum(spec.elements for spec in self)


EMBEDDING = "model.embed_tokens.weight"
HEAD = "lm_head.weight"
PREFIX = "model."
"""What stands before the name of every tensor but the head's, unless the model was stored without its head."""

BUFFERS = (".rotary_emb.inv_freq",)
"""Ends of the names of tensors that older libraries stored although they follow from the config."""

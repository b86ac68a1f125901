"""The tensors of a decoder by what they are for: the one list of names and shapes that everything else goes by."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runtime_svc.models.architecture import ModelConfig


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


def dense_tensors(config: ModelConfig) -> ModelTensors:
    """The tensors of a Llama-like decoder, by the names that transformers gives them."""
    d, ffn, wide = config.hidden, config.ffn, config.head_dim
    rows = {"q": config.heads * wide, "k": config.kv_heads * wide, "v": config.kv_heads * wide}

    def block(at: str) -> BlockTensors:
        def weight(name: str) -> TensorSpec:
            return TensorSpec(f"{at}self_attn.{name}_proj.weight", (rows[name], d))

        def bias(name: str) -> TensorSpec | None:
            wanted = config.blocks.qkv_bias
            return TensorSpec(f"{at}self_attn.{name}_proj.bias", (rows[name],)) if wanted else None

        def gain(name: str) -> TensorSpec | None:
            wanted = config.blocks.qk_norm
            return TensorSpec(f"{at}self_attn.{name}_norm.weight", (wide,)) if wanted else None

        return BlockTensors(
            attention_gain=TensorSpec(at + "input_layernorm.weight", (d,)),
            q=weight("q"),
            q_bias=bias("q"),
            k=weight("k"),
            k_bias=bias("k"),
            v=weight("v"),
            v_bias=bias("v"),
            q_gain=gain("q"),
            k_gain=gain("k"),
            o=TensorSpec(at + "self_attn.o_proj.weight", (d, rows["q"])),
            ffn_gain=TensorSpec(at + "post_attention_layernorm.weight", (d,)),
            gate=TensorSpec(at + "mlp.gate_proj.weight", (ffn, d)),
            up=TensorSpec(at + "mlp.up_proj.weight", (ffn, d)),
            down=TensorSpec(at + "mlp.down_proj.weight", (d, ffn)),
        )

    return ModelTensors(
        embedding=TensorSpec(EMBEDDING, (config.vocabulary, d)),
        blocks=tuple(block(f"{PREFIX}layers.{i}.") for i in range(config.layers)),
        final_gain=TensorSpec(PREFIX + "norm.weight", (d,)),
        head=None if config.tied else TensorSpec(HEAD, (config.vocabulary, d)),
    )

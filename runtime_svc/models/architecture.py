"""What a file of an architecture says, and the shape of a model that comes of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

from runtime_svc.models.tensors import ModelTensors


class State(Protocol):
    """The kind of state that one sequence has in a slot. Pure: it knows lengths, never a tensor."""

    def resumable(self, held: int, length: int) -> int:
        """The longest prefix, at most `length` tokens, that a state which has read `held` tokens can go on from.

        A backend that is asked to prefill or to copy from there needs no token before it. 0 is always possible: it
        stands for an empty state.
        """

    def slot_bytes(self, config: ModelConfig, capacity: int, element_bytes: int) -> int:
        """Bytes of a slot that holds `capacity` tokens, where an element takes `element_bytes`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Blocks:
    """What tells the blocks of one Llama-like decoder from another's.

    `qkv_bias`: queries, keys and values have a bias. `qk_norm`: each query and key head is normed, with a gain,
    before it is rotated.
    """

    qkv_bias: bool = False
    qk_norm: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig:
    """The shape of a decoder. Counts and widths are in elements.

    `rope_attention_scale`, a factor on rotated queries and keys, is 1 except for YaRN. `tied`: the embedding is the
    head too. `eos_ids` are the tokens that end a turn.
    """

    architecture: Architecture
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    vocabulary: int
    context_length: int
    norm_eps: float
    tied: bool
    inverse_frequencies: tuple[float, ...]
    rope_attention_scale: float
    eos_ids: frozenset[int]

    @property
    def qkv_width(self) -> int:
        """Columns of the fused query, key and value projection."""
        return (self.heads + 2 * self.kv_heads) * self.head_dim

    @property
    def blocks(self) -> Blocks:
        """What the blocks have."""
        return self.architecture.blocks

    @property
    def state(self) -> State:
        """The kind of state that a sequence has."""
        return self.architecture.state

    @property
    def tensors(self) -> ModelTensors:
        """The tensors that a checkpoint of this shape must have."""
        return self.architecture.tensors(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class Architecture:
    """A family of decoders: one file of `runtime_svc/models`, or of a package that adds one.

    `name` is the first of `architectures` in `config.json`, `model_type` the word there for configs without one.
    `config` reads the settings, `tensors` names what a checkpoint must have. `defaults` are what transformers takes
    for settings that are not there, where architectures differ in it. `only` are the settings with but one known
    value, which is also their default.
    """

    name: str
    model_type: str
    config: Callable[[Architecture, Path, Mapping[str, Any], frozenset[int]], ModelConfig]
    tensors: Callable[[ModelConfig], ModelTensors]
    state: State
    blocks: Blocks = Blocks()
    defaults: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    only: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))

    def read(self, path: Path, raw: Mapping[str, Any], eos_ids: frozenset[int]) -> ModelConfig:
        """The shape that `raw`, the settings of the file `path`, describes. Raises naming the setting that is wrong."""
        return self.config(self, path, raw, eos_ids)

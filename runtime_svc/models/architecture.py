"""What a file of an architecture says, and the shape of a model that comes of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from runtime_svc.directory import count, flag, positive
from runtime_svc.errors import damaged, unsupported
from runtime_svc.models.rope import inverse_frequencies
from runtime_svc.models.state import KEYS_AND_VALUES, State
from runtime_svc.models.tensors import ModelTensors, dense_tensors

_MAX_HEAD_DIM = 1024
_MAX_CONTEXT = 1 << 22
"""Bounds on what is computed from a config before any weight is seen to fit it."""


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
    `defaults` are what transformers takes for settings that are not there, where that is not what is said by
    `dense_config` itself. `only` are the settings with but one known value, which is also their default.
    """

    name: str
    model_type: str
    blocks: Blocks = Blocks()
    defaults: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    only: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))
    state: State = KEYS_AND_VALUES
    tensors: Callable[[ModelConfig], ModelTensors] = dense_tensors
    config: Callable[[Architecture, Path, Mapping[str, Any], frozenset[int]], ModelConfig] = field(
        default_factory=lambda: dense_config
    )

    def read(self, path: Path, raw: Mapping[str, Any], eos_ids: frozenset[int]) -> ModelConfig:
        """The shape that `raw`, the settings of the file `path`, describes. Raises naming the setting that is wrong."""
        return self.config(self, path, raw, eos_ids)


def dense_config(
    architecture: Architecture, path: Path, raw: Mapping[str, Any], eos_ids: frozenset[int]
) -> ModelConfig:
    """The shape of a Llama-like decoder, from the settings that transformers gives those. Raises as `read` does."""
    _check_known(architecture, path, raw)
    defaults = architecture.defaults
    layers = count(path, raw, "num_hidden_layers")
    _check_full_attention(path, raw, layers)
    hidden, heads = count(path, raw, "hidden_size"), count(path, raw, "num_attention_heads")
    kv_heads = count(path, raw, "num_key_value_heads", default=heads)
    head_dim = count(path, raw, "head_dim", default=defaults.get("head_dim", hidden // heads))
    if heads % kv_heads or head_dim % 2 or head_dim > _MAX_HEAD_DIM:
        got = f"{heads} heads over {kv_heads} key-value heads of {head_dim}"
        wanted = f"whole groups of even heads, at most {_MAX_HEAD_DIM} wide"
        raise damaged(path, "the attention shape", expected=wanted, got=got)
    context = count(path, raw, "max_position_embeddings", default=defaults.get("max_position_embeddings"))
    if context > _MAX_CONTEXT:
        raise damaged(path, "max_position_embeddings", expected=f"at most {_MAX_CONTEXT}", got=f"{context}")
    vocabulary = count(path, raw, "vocab_size")
    if max(eos_ids, default=0) >= vocabulary:
        raise damaged(path, "eos_token_id", expected=f"under {vocabulary}", got=f"{max(eos_ids)}")
    frequencies, scale = inverse_frequencies(path, raw, head_dim)
    return ModelConfig(
        architecture=architecture,
        layers=layers,
        hidden=hidden,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        ffn=count(path, raw, "intermediate_size"),
        vocabulary=vocabulary,
        context_length=context,
        norm_eps=positive(path, raw, "rms_norm_eps", default=1e-6),
        tied=flag(path, raw, "tie_word_embeddings"),
        inverse_frequencies=frequencies,
        rope_attention_scale=scale,
        eos_ids=eos_ids,
    )


def _check_known(architecture: Architecture, path: Path, raw: Mapping[str, Any]) -> None:
    kind = raw.get("model_type", architecture.model_type)
    if kind != architecture.model_type:
        wanted = f'model_type "{architecture.model_type}" with {architecture.name}'
        raise unsupported(path, expected=wanted, got=repr(kind))
    for key in ("quantization_config", "compression_config"):
        if raw.get(key) is not None:
            raise unsupported(path, expected="weights that are not quantised", got=f"a {key}")
    for key, known in {"hidden_act": "silu", **architecture.only}.items():
        value = raw.get(key)
        if value is not None and value != known:
            raise unsupported(path, expected=f"{key} {known!r} in {architecture.name}", got=repr(value))


def _check_full_attention(path: Path, raw: Mapping[str, Any], layers: int) -> None:
    """A layer slides where `layer_types` says so; without it, from `max_window_layers` on, if windows are in use."""
    kinds = raw.get("layer_types")
    if kinds is not None:
        if not isinstance(kinds, list) or len(kinds) != layers:
            raise damaged(
                path, "layer_types", expected=f"one for each of {layers} layers", got=repr(kinds)[:80]
            )
        sliding = sum(kind != "full_attention" for kind in kinds)
        got = f"{sliding} layers of another kind"
    else:
        windowed = flag(path, raw, "use_sliding_window") and raw.get("sliding_window", 4096) is not None
        first = raw.get("max_window_layers", 28)
        if type(first) is not int:
            raise damaged(path, "max_window_layers", expected="a whole number", got=repr(first))
        sliding = layers - first if windowed else 0
        got = f"a sliding window in {sliding} layers"
    if sliding > 0:
        raise unsupported(path, expected="full attention in every layer", got=got)

"""Decoders that are built like Llama: their settings and tensors by the names that transformers gives them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runtime_svc.directory import count, flag, positive
from runtime_svc.errors import damaged, unsupported
from runtime_svc.models.architecture import Architecture, ModelConfig
from runtime_svc.models.rope import inverse_frequencies
from runtime_svc.models.tensors import EMBEDDING, HEAD, PREFIX, BlockTensors, ModelTensors, TensorSpec

_MAX_HEAD_DIM = 1024
_MAX_CONTEXT = 1 << 22
_MAX_LAYERS = 1 << 12
"""Bounds on what is computed from a config before any weight is seen to fit it."""


def dense_config(
    architecture: Architecture, path: Path, raw: Mapping[str, Any], eos_ids: frozenset[int]
) -> ModelConfig:
    """The shape of a Llama-like decoder, from the settings that transformers gives those. Raises as `read` does."""
    _check_known(architecture, path, raw)
    defaults = architecture.defaults
    layers = count(path, raw, "num_hidden_layers")
    if layers > _MAX_LAYERS:
        raise damaged(path, "num_hidden_layers", expected=f"at most {_MAX_LAYERS}", got=f"{layers}")
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

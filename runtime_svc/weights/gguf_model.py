"""A GGUF file as a checkpoint: its settings, tensors and texts in the words of a Hugging Face directory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from runtime_svc.errors import damaged, unsupported
from runtime_svc.models import ARCHITECTURES
from runtime_svc.models.architecture import ModelConfig
from runtime_svc.safetensor import Tensor
from runtime_svc.weights.checkpoint import Checkpoint, checked
from runtime_svc.weights.gguf_file import GgufFile, read_gguf
from runtime_svc.weights.gguf_tensors import stored_tensors, uninterleaved
from runtime_svc.weights.gguf_tokenizer import eos_ids, tokenizer_config, tokenizer_json, tokens_of


@dataclass(frozen=True, kw_only=True, slots=True)
class _Kind:
    """What llama.cpp's converter makes of an architecture.

    `interleaved`: it puts those rows of a query or key head side by side that turn together.
    """

    name: str
    interleaved: bool = False


_KINDS = {
    "llama": _Kind(name="LlamaForCausalLM", interleaved=True),
    "qwen2": _Kind(name="Qwen2ForCausalLM"),
    "qwen3": _Kind(name="Qwen3ForCausalLM"),
}
"""By `general.architecture`."""

_COUNTS = {
    "block_count": "num_hidden_layers",
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim",
    "context_length": "max_position_embeddings",
}
_NUMBERS = {"attention.layer_norm_rms_epsilon": "rms_norm_eps", "rope.freq_base": "rope_theta"}
_ROPE_NUMBERS = {
    "rope.scaling.factor": "factor",
    "rope.scaling.original_context_length": "original_max_position_embeddings",
    "rope.scaling.yarn_beta_fast": "beta_fast",
    "rope.scaling.yarn_beta_slow": "beta_slow",
}
_ROPE_TYPES = {"none": "default", "linear": "linear", "yarn": "yarn"}
_CHECKED = ("vocab_size", "rope.dimension_count", "attention.value_length", "rope.scaling.type")
_HARMLESS = ("rope.scaling.finetuned",)
"""Settings by llama.cpp's names, without the architecture before them, and those of `config.json` that they are."""

_OFF = ("expert_count", "expert_used_count", "attention.sliding_window")
"""Settings that may be there as long as they are 0."""

_TENSORS = {
    "attention_gain": "attn_norm.weight",
    "q": "attn_q.weight",
    "q_bias": "attn_q.bias",
    "k": "attn_k.weight",
    "k_bias": "attn_k.bias",
    "v": "attn_v.weight",
    "v_bias": "attn_v.bias",
    "q_gain": "attn_q_norm.weight",
    "k_gain": "attn_k_norm.weight",
    "o": "attn_output.weight",
    "ffn_gain": "ffn_norm.weight",
    "gate": "ffn_gate.weight",
    "up": "ffn_up.weight",
    "down": "ffn_down.weight",
}
"""Ends of llama.cpp's names by the roles of `BlockTensors`."""

_EMBEDDING, _HEAD, _FINAL_GAIN, _ROPE_FACTORS = (
    "token_embd.weight",
    "output.weight",
    "output_norm.weight",
    "rope_freqs.weight",
)


def open_gguf(path: Path) -> Checkpoint:
    """The checkpoint of a GGUF file. Raises `TreniError` naming what in it is missing, damaged or not known."""
    file = read_gguf(path)
    stored = stored_tensors(file)
    kind, raw = _settings(file, tied=_HEAD not in stored)
    config = ARCHITECTURES[kind.name].read(path, raw, eos_ids(file))
    config = _with_rope_factors(path, config, stored.pop(_ROPE_FACTORS, None))
    opened = checked(path, config, dict(_renamed(config, kind, stored)))
    return replace(opened, tokenizer_json=tokenizer_json(file), tokenizer_config=tokenizer_config(file))


def _settings(file: GgufFile, *, tied: bool) -> tuple[_Kind, dict[str, Any]]:
    """Which architecture it is, and its settings as `config.json` would have them."""
    path, architecture = file.path, file.metadata.get("general.architecture")
    kind = _KINDS.get(architecture) if isinstance(architecture, str) else None
    if kind is None:
        wanted = f"general.architecture {', '.join(_KINDS)}"
        raise unsupported(path, expected=wanted, got=repr(architecture)[:80])
    parts = file.metadata.get("split.count", 0)
    if not isinstance(parts, int) or parts > 1:
        got = f"split.count {parts!r}"[:80]
        raise unsupported(path, expected="one whole file", got=got, todo="merge the parts first")
    prefix = f"{architecture}."
    given = {
        key.removeprefix(prefix): value for key, value in file.metadata.items() if key.startswith(prefix)
    }
    _check_known(path, prefix, given)
    raw: dict[str, Any] = {
        "vocab_size": len(tokens_of(file)),
        "tie_word_embeddings": tied,
    }
    for key, name in {**_COUNTS, **_NUMBERS}.items():
        if key in given:
            raw[name] = _number(path, prefix + key, given[key], whole=key in _COUNTS)
        elif key in ("context_length", "attention.layer_norm_rms_epsilon"):
            raise damaged(path, prefix + key, expected="in the metadata", got="nothing")
    rope = _rope(path, prefix, given)
    if rope:
        raw["rope_scaling"] = rope
    _check_agreement(path, prefix, given, raw)
    return kind, raw


def _check_known(path: Path, prefix: str, given: Mapping[str, Any]) -> None:
    known = {*_COUNTS, *_NUMBERS, *_ROPE_NUMBERS, *_CHECKED, *_HARMLESS, *_OFF}
    for key, value in given.items():
        off = isinstance(value, int | float) and value == 0
        if key not in known or (key in _OFF and not off):
            raise unsupported(
                path,
                expected="settings that are known",
                got=f"{prefix}{key} = {value!r}"[:120],
                todo="use a plain Llama, Qwen2.5 or Qwen3 model",
            )


def _check_agreement(path: Path, prefix: str, given: Mapping[str, Any], raw: Mapping[str, Any]) -> None:
    """Settings that say once more what others say; a head is turned whole, and its values are as wide as its keys."""
    hidden, heads = raw.get("hidden_size", 0), raw.get("num_attention_heads", 0)
    width = raw.get("head_dim", hidden // heads if heads > 0 else 0)
    expected = {
        "rope.dimension_count": width,
        "attention.value_length": width,
        "vocab_size": raw["vocab_size"],
    }
    for key, value in expected.items():
        if key in given and (isinstance(given[key], np.ndarray) or given[key] != value):
            raise unsupported(path, expected=f"{prefix}{key} {value}", got=repr(given[key])[:80])


def _rope(path: Path, prefix: str, given: Mapping[str, Any]) -> dict[str, Any]:
    kind = given.get("rope.scaling.type", "none")
    if not isinstance(kind, str) or kind not in _ROPE_TYPES:
        wanted = f"{prefix}rope.scaling.type {', '.join(_ROPE_TYPES)}"
        raise unsupported(path, expected=wanted, got=repr(kind)[:80])
    if kind == "none":
        return {}
    found: dict[str, Any] = {"rope_type": _ROPE_TYPES[kind]}
    for key, name in _ROPE_NUMBERS.items():
        if key in given:
            found[name] = _number(path, prefix + key, given[key], whole=False)
    return found


def _number(path: Path, key: str, value: object, *, whole: bool) -> int | float:
    if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
        wanted = "a whole number" if whole else "a number"
        raise damaged(path, key, expected=wanted, got=repr(value)[:80])
    return value


def _with_rope_factors(path: Path, config: ModelConfig, factors: Tensor | None) -> ModelConfig:
    """The config with each frequency divided by its factor: where llama.cpp's converter puts Llama 3's stretching."""
    if factors is None:
        return config
    plain = config.inverse_frequencies
    if factors.shape != (len(plain),):
        raise damaged(path, _ROPE_FACTORS, expected=f"of shape {(len(plain),)}", got=f"{factors.shape}")
    values = factors.widened().astype(float)
    if (values <= 0).any():
        raise damaged(path, _ROPE_FACTORS, expected="over 0", got=f"{values.min()}")
    slowed = tuple(frequency / factor for frequency, factor in zip(plain, values.tolist(), strict=True))
    return replace(config, inverse_frequencies=slowed)


def _renamed(config: ModelConfig, kind: _Kind, stored: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """What is stored by the names of `config.tensors`; what those don't ask for keeps its own."""
    tensors = config.tensors
    names = {_EMBEDDING: tensors.embedding.name, _FINAL_GAIN: tensors.final_gain.name}
    if tensors.head is not None:
        names[_HEAD] = tensors.head.name
    heads: dict[str, int] = {}
    for index, block in enumerate(tensors.blocks):
        for role, end in _TENSORS.items():
            spec = getattr(block, role)
            if spec is not None:
                names[f"blk.{index}.{end}"] = spec.name
        if kind.interleaved:
            heads |= {block.q.name: config.heads, block.k.name: config.kv_heads}
    for name, tensor in stored.items():
        asked = names.get(name, name)
        turned = heads.get(asked, 0)
        fits = turned and tensor.shape[:1] == (turned * config.head_dim,)  # else `checked` names it
        yield asked, uninterleaved(tensor, turned) if fits else tensor

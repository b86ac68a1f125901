"""A Hugging Face directory of the Qwen2.5 / Qwen3 dense family, as one config and float32 weights."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from runtime_svc.directory import count, positive, read_json
from runtime_svc.errors import damaged, missing, unsupported
from runtime_svc.rope import inverse_frequencies
from runtime_svc.safetensor import Tensor, read_directory

Floats = npt.NDArray[np.float32]

_MAX_HEAD_DIM = 1024
_MAX_CONTEXT = 1 << 22
"""Bounds on what is computed from a config before any weight is seen to fit it."""

_DTYPES = {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig:
    """The shape of a decoder. Counts and widths are in elements; `rope_attention_scale` is 1 except for YaRN."""

    family: str
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


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerWeights:
    """One block. Matrices are (inputs, outputs), C-contiguous: `x @ w` then reads each row once, in order.

    The columns of every query and key head, and `qk_gain`, are in rotary order: pair i of a head lies at
    2i and 2i+1, so that a head is `head_dim / 2` complex numbers. `qk_gain` is (heads + kv_heads, head_dim);
    None without QK-norm, as `qkv_bias` is without a bias.
    """

    attention_gain: Floats
    qkv: Floats
    qkv_bias: Floats | None
    qk_gain: Floats | None
    o: Floats
    ffn_gain: Floats
    gate_up: Floats
    down: Floats


@dataclass(frozen=True, kw_only=True, slots=True)
class Weights:
    """A decoder's weights. `embedding` is (vocabulary, hidden), `head` (hidden, vocabulary)."""

    embedding: Floats
    layers: tuple[LayerWeights, ...]
    final_gain: Floats
    head: Floats
    parameters: int
    stored_dtype: str


def read_config(directory: Path) -> ModelConfig:
    """The config of the checkpoint. Raises `TreniError` naming the file and the setting that is wrong.

    Of `generation_config.json` only the ids that end a turn are taken. Its sampling defaults are not: in the
    contract a request that sets nothing is greedy, so that the same request means the same with every checkpoint.
    """
    path = directory / "config.json"
    raw = read_json(path)
    architecture = raw.get("model_type")
    if architecture not in ("qwen2", "qwen3"):
        raise unsupported(path, expected='model_type "qwen2" or "qwen3"', got=repr(architecture))
    if raw.get("hidden_act", "silu") != "silu":
        raise unsupported(path, expected='hidden_act "silu"', got=repr(raw["hidden_act"]))
    if raw.get("use_sliding_window") or "sliding_attention" in (raw.get("layer_types") or ()):
        raise unsupported(path, expected="full attention in every layer", got="a sliding window")
    if architecture == "qwen3" and raw.get("attention_bias"):
        raise unsupported(path, expected="qwen3 without attention_bias", got="attention_bias true")
    if raw.get("quantization_config") is not None:
        raise unsupported(path, expected="weights that are not quantised", got="a quantization_config")
    hidden = count(path, raw, "hidden_size")
    heads = count(path, raw, "num_attention_heads")
    kv_heads = count(path, raw, "num_key_value_heads", default=heads)
    head_dim = count(path, raw, "head_dim", default=hidden // heads)
    if heads % kv_heads or head_dim % 2 or head_dim > _MAX_HEAD_DIM:
        got = f"{heads} heads over {kv_heads} key-value heads of {head_dim}"
        wanted = f"whole groups of even heads, at most {_MAX_HEAD_DIM} wide"
        raise damaged(path, "the attention shape", expected=wanted, got=got)
    vocabulary, context = count(path, raw, "vocab_size"), count(path, raw, "max_position_embeddings")
    if context > _MAX_CONTEXT:
        raise damaged(path, "max_position_embeddings", expected=f"at most {_MAX_CONTEXT}", got=f"{context}")
    frequencies, scale = inverse_frequencies(path, raw, head_dim)
    return ModelConfig(
        family=architecture,
        layers=count(path, raw, "num_hidden_layers"),
        hidden=hidden,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        ffn=count(path, raw, "intermediate_size"),
        vocabulary=vocabulary,
        context_length=context,
        norm_eps=positive(path, raw, "rms_norm_eps", default=1e-6),
        tied=bool(raw.get("tie_word_embeddings", False)),
        inverse_frequencies=frequencies,
        rope_attention_scale=scale,
        eos_ids=_eos_ids(directory, raw, vocabulary),
    )


def read_weights(directory: Path, config: ModelConfig) -> Weights:
    """The weights, widened once to float32 and fused for the decoder. Raises naming file and tensor."""
    source = Source(directory, read_directory(directory))
    d, c = config.hidden, config
    embedding = source.take("model.embed_tokens.weight", (c.vocabulary, d))
    layers = tuple(_read_layer(source, f"model.layers.{i}.", config) for i in range(c.layers))
    final_gain = source.take("model.norm.weight", (d,))
    head = embedding if c.tied else source.take("lm_head.weight", (c.vocabulary, d))
    return Weights(
        embedding=embedding,
        layers=layers,
        final_gain=final_gain,
        head=np.ascontiguousarray(head.T),
        parameters=source.parameters,
        stored_dtype=source.stored_dtype,
    )


def _read_layer(source: Source, at: str, config: ModelConfig) -> LayerWeights:
    d, hd, ffn = config.hidden, config.head_dim, config.ffn
    q, kv = config.heads * hd, config.kv_heads * hd
    pairs = _rotary_order(hd)

    def heads_of(name: str, width: int, *rest: int) -> Floats:
        """Rows of a query or key projection, in rotary order within each head."""
        tensor = source.take(at + name, (width, *rest))
        return tensor.reshape(width // hd, hd, *rest)[:, pairs].reshape(width, *rest)

    attention = "self_attn."
    qkv = np.concatenate(
        [
            heads_of(attention + "q_proj.weight", q, d),
            heads_of(attention + "k_proj.weight", kv, d),
            source.take(at + attention + "v_proj.weight", (kv, d)),
        ]
    )
    bias = gain = None
    if config.family == "qwen2":
        bias = np.concatenate(
            [
                heads_of(attention + "q_proj.bias", q),
                heads_of(attention + "k_proj.bias", kv),
                source.take(at + attention + "v_proj.bias", (kv,)),
            ]
        )
    else:
        q_gain = source.take(at + attention + "q_norm.weight", (hd,))[pairs]
        k_gain = source.take(at + attention + "k_norm.weight", (hd,))[pairs]
        gain = np.concatenate([np.tile(q_gain, (config.heads, 1)), np.tile(k_gain, (config.kv_heads, 1))])
    gate = source.take(at + "mlp.gate_proj.weight", (ffn, d))
    up = source.take(at + "mlp.up_proj.weight", (ffn, d))
    return LayerWeights(
        attention_gain=source.take(at + "input_layernorm.weight", (d,)),
        qkv=np.ascontiguousarray(qkv.T),
        qkv_bias=bias,
        qk_gain=gain,
        o=np.ascontiguousarray(source.take(at + attention + "o_proj.weight", (d, q)).T),
        ffn_gain=source.take(at + "post_attention_layernorm.weight", (d,)),
        gate_up=np.ascontiguousarray(np.concatenate([gate, up]).T),
        down=np.ascontiguousarray(source.take(at + "mlp.down_proj.weight", (d, ffn)).T),
    )


def sha256(directory: Path) -> str:
    """Hex digest over what decides an answer: config, weights, tokenizer and template, in name order."""
    digest = hashlib.sha256()
    for path in sorted(directory.iterdir()):
        if path.suffix in (".safetensors", ".json", ".jinja") and path.is_file():
            digest.update(path.name.encode() + b"\0")
            with path.open("rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
    return digest.hexdigest()


class Source:
    """Hands out the tensors of a directory by name and shape, and counts what it handed out."""

    def __init__(self, directory: Path, tensors: Mapping[str, Tensor]) -> None:
        self._directory = directory
        self._tensors = tensors
        self.parameters = 0
        self._dtypes: set[str] = set()

    @property
    def stored_dtype(self) -> str:
        """How the tensors handed out are stored, such as "bfloat16"; several joined by "+"."""
        return "+".join(sorted(self._dtypes))

    def take(self, name: str, shape: tuple[int, ...]) -> Floats:
        """The tensor widened to float32. Raises as `find` does, or when a value is not finite."""
        return self.find(name, shape).widened()

    def find(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """The stored tensor. Raises `TreniError` when it is missing or of another shape."""
        tensor = self._tensors.get(name)
        if tensor is None:
            raise missing(self._directory, f"the tensor {name}")
        if tensor.shape != shape:
            raise damaged(tensor.file, name, expected=f"of shape {shape}", got=f"{tensor.shape}")
        self.parameters += math.prod(shape)
        if tensor.dtype not in _DTYPES:
            raise damaged(tensor.file, name, expected="floating-point numbers", got=tensor.dtype)
        self._dtypes.add(_DTYPES[tensor.dtype])
        return tensor


def _rotary_order(head_dim: int) -> npt.NDArray[np.intp]:
    """Hugging Face rotates element i with element i + head_dim / 2; this puts the two side by side."""
    return np.arange(head_dim).reshape(2, head_dim // 2).T.ravel()


def _eos_ids(directory: Path, config: Mapping[str, Any], vocabulary: int) -> frozenset[int]:
    """Ids that end a turn. `generation_config.json` has the full list where `config.json` names one."""
    path = directory / "generation_config.json"
    generation = read_json(path) if path.is_file() else {}
    ids = generation.get("eos_token_id")
    if ids is None:
        ids = config.get("eos_token_id")
    found = ids if isinstance(ids, list) else [ids]
    if not found or not all(type(i) is int and 0 <= i < vocabulary for i in found):
        wanted = f"a token id under {vocabulary} or a list of them"
        raise damaged(path, "eos_token_id", expected=wanted, got=repr(ids))
    return frozenset(found)

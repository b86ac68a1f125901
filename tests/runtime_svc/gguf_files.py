"""GGUF files as llama.cpp's converter writes them, by the writer of the `gguf` package, and their twin directories."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import gguf
import numpy as np
from gguf.quants import dequantize, quantize
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from runtime_svc.random_checkpoint import (
    CHAT_TEMPLATE,
    CONTROL,
    MARKERS,
    Shape,
    byte_tokenizer,
    random_tensors,
    write_random_checkpoint,
)
from runtime_svc.safetensor import write_file

Q = gguf.GGMLQuantizationType
Entry: TypeAlias = tuple[Any, gguf.GGUFValueType | None]
"""A value of the metadata and, where it is not plain, its type."""
NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "model.layers.": "blk.",
}
EOS, EOT = 256, 258
MERGES = (("h", "e"), ("l", "l"), ("he", "ll"), ("Ġ", "hell"), ("1", "2"))
MERGED = tuple("".join(pair) for pair in MERGES)


def base_tokens() -> list[str]:
    """The bytes, the control tokens and the markers, in the order of their ids."""
    vocabulary = byte_tokenizer().get_vocab()
    return sorted(vocabulary, key=vocabulary.__getitem__)


def tokenizer(pre: pre_tokenizers.PreTokenizer | None = None) -> Tokenizer:
    """What the metadata describes, put together by hand with the `tokenizers` library."""
    vocabulary = {token: i for i, token in enumerate([*base_tokens(), *MERGED])}
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=list(MERGES)))
    made.pre_tokenizer = pre or pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken(token, special=True) for token in CONTROL])
    made.add_tokens([AddedToken(token, normalized=False) for token in MARKERS])
    return made


def renamed(name: str) -> str:
    for ours, theirs in NAMES.items():
        name = name.replace(ours, theirs)
    return name


def interleaved(values: np.ndarray, heads: int) -> np.ndarray:
    """As llama.cpp's converter permutes the rows of Llama's query and key heads."""
    return values.reshape(heads, 2, values.shape[0] // heads // 2, -1).swapaxes(1, 2).reshape(values.shape)


def metadata(shape: Shape, pre: str = "smollm") -> dict[str, Entry]:
    """Key, value and, where it is not plain, its type, in order."""
    kind = shape.model_type
    tokens = [*base_tokens(), *MERGED]
    types = [3 if t in CONTROL else 4 if t in MARKERS else 1 for t in tokens]
    while len(tokens) < shape.vocabulary:
        types.append(5)
        tokens.append(f"[PAD{len(tokens)}]")
    u32, f32, text = gguf.GGUFValueType.UINT32, gguf.GGUFValueType.FLOAT32, gguf.GGUFValueType.STRING
    return {
        f"{kind}.block_count": (shape.layers, u32),
        f"{kind}.context_length": (shape.context_length, u32),
        f"{kind}.embedding_length": (shape.hidden, u32),
        f"{kind}.feed_forward_length": (shape.ffn, u32),
        f"{kind}.attention.head_count": (shape.heads, u32),
        f"{kind}.attention.head_count_kv": (shape.kv_heads, u32),
        f"{kind}.attention.key_length": (shape.head_dim, u32),
        f"{kind}.attention.value_length": (shape.head_dim, u32),
        f"{kind}.attention.layer_norm_rms_epsilon": (1e-6, f32),
        f"{kind}.rope.freq_base": (10000.0, f32),
        f"{kind}.rope.dimension_count": (shape.head_dim, u32),
        f"{kind}.vocab_size": (shape.vocabulary, u32),
        "general.name": ("a random one", text),
        "general.file_type": (0, u32),
        "tokenizer.ggml.model": ("gpt2", text),
        "tokenizer.ggml.pre": (pre, text),
        "tokenizer.ggml.tokens": (tokens, None),
        "tokenizer.ggml.token_type": (types, None),
        "tokenizer.ggml.merges": ([" ".join(pair) for pair in MERGES], None),
        "tokenizer.ggml.eos_token_id": (EOS, u32),
        "tokenizer.ggml.eot_token_id": (EOT, u32),
        "tokenizer.ggml.add_bos_token": (False, gguf.GGUFValueType.BOOL),
        "tokenizer.chat_template": (CHAT_TEMPLATE, text),
    }


def write_gguf(
    path: Path,
    shape: Shape,
    *,
    seed: int = 0,
    kind: gguf.GGMLQuantizationType = Q.F32,
    changes: Mapping[str, Entry | None] | None = None,
    tensors: Mapping[str, np.ndarray] | None = None,
    architecture: str | None = None,
) -> Path:
    """A GGUF file of random weights: matrices of that type, vectors in float32, as converters have them.

    `changes` replaces metadata, None takes it away; `tensors` adds some by llama.cpp's names.
    """
    writer = gguf.GGUFWriter(path, architecture or shape.model_type)
    for key, value in {**metadata(shape), **(changes or {})}.items():
        if value is None:
            continue
        what, type_ = value
        if type_ is not None:
            writer.add_key_value(key, what, type_)
        else:
            writer.add_array(key, what)
    for name, values in random_tensors(shape, seed).items():
        if shape.model_type == "llama":
            heads = shape.heads if "q_proj" in name else shape.kv_heads if "k_proj" in name else 0
            values = interleaved(values, heads) if heads else values
        if values.ndim == 1:
            writer.add_tensor(renamed(name), values)
        else:
            writer.add_tensor(renamed(name), quantize(np.ascontiguousarray(values), kind), raw_dtype=kind)
    for name, values in (tensors or {}).items():
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def write_twin(
    directory: Path,
    shape: Shape,
    *,
    seed: int = 0,
    kind: gguf.GGMLQuantizationType = Q.F32,
    **settings: object,
) -> Path:
    """The same weights as a Hugging Face directory: matrices rounded as that type rounds them, row by row."""
    write_random_checkpoint(directory, shape, seed=seed)
    tensors = random_tensors(shape, seed)
    for name, values in tensors.items():
        if values.ndim == 2:
            tensors[name] = np.asarray(dequantize(quantize(values, kind), kind), np.float32)
    write_file(directory / "model.safetensors", tensors, "float32")
    path = directory / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))
    tokenizer().save(str(directory / "tokenizer.json"))
    (directory / "generation_config.json").write_text(json.dumps({"eos_token_id": [EOS, EOT]}))
    return directory

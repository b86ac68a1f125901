"""A sentence-transformers or plain BERT directory, as one config and float32 weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from runtime_svc.directory import count, positive, read_json, refuse_pointer
from runtime_svc.errors import damaged, unsupported
from runtime_svc.safetensor import read_directory
from runtime_svc.weights.source import Source

Floats = npt.NDArray[np.float32]

ADVICE = "use a BERT encoder with mean pooling, such as all-MiniLM-L6-v2"

_OTHER_HEADS = ("pooler.", "cls.")
"""What BERT's pre-training leaves in a checkpoint, and mean pooling does not use."""

_MODULES = ("Transformer", "Pooling", "Normalize")


@dataclass(frozen=True, kw_only=True, slots=True)
class EncoderConfig:
    """The shape of an encoder. `max_tokens` counts the special tokens around a text too."""

    layers: int
    hidden: int
    heads: int
    ffn: int
    vocabulary: int
    positions: int
    token_types: int
    norm_eps: float
    max_tokens: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Norm:
    """Gain and bias of a LayerNorm, each (hidden,)."""

    gain: Floats
    bias: Floats


@dataclass(frozen=True, kw_only=True, slots=True)
class Dense:
    """A linear layer: `weight` (inputs, outputs), C-contiguous, and `bias` (outputs,)."""

    weight: Floats
    bias: Floats


@dataclass(frozen=True, kw_only=True, slots=True)
class EncoderLayer:
    """One block; `qkv` is the three projections side by side, (hidden, 3 hidden)."""

    qkv: Dense
    attended: Dense
    attended_norm: Norm
    up: Dense
    down: Dense
    norm: Norm


@dataclass(frozen=True, kw_only=True, slots=True)
class EncoderWeights:
    """`words` is (vocabulary, hidden); `positions` (positions, hidden) has token type 0 added already."""

    words: Floats
    positions: Floats
    norm: Norm
    layers: tuple[EncoderLayer, ...]
    parameters: int


def transformer_directory(directory: Path) -> Path:
    """Where the transformer's own files are: `directory` itself, or the folder that `modules.json` names.

    A directory without `modules.json` is a plain BERT one, and gets mean pooling and unit length all the same.
    Raises when the modules are anything but a transformer, mean pooling and, perhaps, normalisation.
    """
    path = directory / "modules.json"
    if not path.is_file():
        return directory
    modules = _read_modules(path)
    kinds = [str(module.get("type")).rsplit(".", 1)[-1] for module in modules]
    if kinds != list(_MODULES[: len(kinds)]) or len(kinds) < 2:
        raise unsupported(
            path, expected="the modules " + ", ".join(_MODULES), got=", ".join(kinds), todo=ADVICE
        )
    folders = [_folder(path, module) for module in modules]
    _check_mean_pooling(directory / folders[1] / "config.json")
    return directory / folders[0]


def read_config(directory: Path) -> EncoderConfig:
    """The config of the transformer in `directory`. Raises naming the file and the setting that is wrong."""
    path = directory / "config.json"
    raw = read_json(path)
    for key, wanted in (("model_type", "bert"), ("hidden_act", "gelu")):
        if raw.get(key) != wanted:
            raise unsupported(path, expected=f'{key} "{wanted}"', got=repr(raw.get(key)), todo=ADVICE)
    if raw.get("position_embedding_type", "absolute") != "absolute":
        got = repr(raw["position_embedding_type"])
        raise unsupported(path, expected="absolute position embeddings", got=got, todo=ADVICE)
    hidden, heads = count(path, raw, "hidden_size"), count(path, raw, "num_attention_heads")
    if hidden % heads:
        raise damaged(path, "num_attention_heads", expected=f"a divisor of {hidden}", got=f"{heads}")
    positions = count(path, raw, "max_position_embeddings")
    return EncoderConfig(
        layers=count(path, raw, "num_hidden_layers"),
        hidden=hidden,
        heads=heads,
        ffn=count(path, raw, "intermediate_size"),
        vocabulary=count(path, raw, "vocab_size"),
        positions=positions,
        token_types=count(path, raw, "type_vocab_size", default=2),
        norm_eps=positive(path, raw, "layer_norm_eps", default=1e-12),
        max_tokens=_max_tokens(directory, positions),
    )


def read_weights(directory: Path, config: EncoderConfig) -> EncoderWeights:
    """The weights, as float32. Raises naming file and tensor. The heads of BERT's pre-training are not."""
    tensors = read_directory(directory)
    prefix = "" if "embeddings.word_embeddings.weight" in tensors else "bert."
    source = Source(directory, tensors)
    c = config

    def norm(name: str) -> Norm:
        return Norm(
            gain=source.take(f"{prefix}{name}.weight", (c.hidden,)),
            bias=source.take(f"{prefix}{name}.bias", (c.hidden,)),
        )

    def dense(inputs: int, outputs: int, *names: str) -> Dense:
        """The named layers, each to `outputs` values, as one."""
        weights = [source.take(f"{prefix}{name}.weight", (outputs, inputs)) for name in names]
        biases = [source.take(f"{prefix}{name}.bias", (outputs,)) for name in names]
        return Dense(weight=np.ascontiguousarray(np.concatenate(weights).T), bias=np.concatenate(biases))

    def layer(index: int) -> EncoderLayer:
        at = f"encoder.layer.{index}."
        own = at + "attention.self."
        return EncoderLayer(
            qkv=dense(c.hidden, c.hidden, own + "query", own + "key", own + "value"),
            attended=dense(c.hidden, c.hidden, at + "attention.output.dense"),
            attended_norm=norm(at + "attention.output.LayerNorm"),
            up=dense(c.hidden, c.ffn, at + "intermediate.dense"),
            down=dense(c.ffn, c.hidden, at + "output.dense"),
            norm=norm(at + "output.LayerNorm"),
        )

    table = prefix + "embeddings.{}_embeddings.weight"
    words = source.take(table.format("word"), (c.vocabulary, c.hidden))
    positions = source.take(table.format("position"), (c.positions, c.hidden))
    types = source.take(table.format("token_type"), (c.token_types, c.hidden))
    weights = EncoderWeights(
        words=words,
        positions=positions + types[0],
        norm=norm("embeddings.LayerNorm"),
        layers=tuple(layer(i) for i in range(c.layers)),
        parameters=source.parameters,
    )
    source.refuse_others(
        f"a BERT encoder of {c.layers} layers",
        lambda name: name.removeprefix(prefix).startswith(_OTHER_HEADS) or name.endswith(".position_ids"),
    )
    return weights


def _max_tokens(directory: Path, positions: int) -> int:
    """sentence-transformers keeps the length that the model was trained for in a file of its own."""
    path = directory / "sentence_bert_config.json"
    if not path.is_file():
        return positions
    limit = count(path, read_json(path), "max_seq_length", default=positions)
    if not 2 < limit <= positions:
        raise damaged(path, "max_seq_length", expected=f"3 to {positions} (positions)", got=f"{limit}")
    return limit


def _read_modules(path: Path) -> list[Mapping[str, Any]]:
    refuse_pointer(path)
    try:
        modules = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise damaged(path, "the text", expected="JSON", got=str(error)) from None
    if not isinstance(modules, list) or not all(isinstance(module, dict) for module in modules):
        raise damaged(path, "the text", expected="a list of modules", got=repr(modules)[:80])
    return modules


def _folder(path: Path, module: Mapping[str, Any]) -> str:
    folder = module.get("path")
    if not isinstance(folder, str) or "/" in folder or folder.startswith("."):
        raise damaged(path, "path", expected="the name of a folder beside it", got=repr(folder))
    return folder


def _check_mean_pooling(path: Path) -> None:
    raw = read_json(path)
    chosen = {key for key, value in raw.items() if key.startswith("pooling_mode_") and value is True}
    if raw.get("pooling_mode") != "mean" and chosen != {"pooling_mode_mean_tokens"}:
        got = ", ".join(sorted(chosen)) or repr(raw.get("pooling_mode"))
        raise unsupported(path, expected="pooling_mode_mean_tokens alone", got=got, todo=ADVICE)

"""A decoder as it lies on disk: its shape, and the tensors that it is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from runtime_svc.directory import read_json
from runtime_svc.errors import damaged, unsupported
from runtime_svc.models import ARCHITECTURES
from runtime_svc.models.architecture import Architecture, ModelConfig
from runtime_svc.models.tensors import BUFFERS, EMBEDDING, HEAD, PREFIX
from runtime_svc.safetensor import Tensor, read_directory
from runtime_svc.weights.source import Source


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoint:
    """A checkpoint whose tensors are all there, of the right shapes, and no others; their values are not read yet.

    `tensors` are by the names of `config.tensors`. `stored_dtype` is how they are stored, such as "bfloat16".
    `tokenizer_json` and `tokenizer_config` are what the files of these names say, where `path` is a single file that
    says it in their place; None where it is a directory that has them.
    """

    path: Path
    config: ModelConfig
    tensors: Mapping[str, Tensor]
    parameters: int
    stored_dtype: str
    tokenizer_json: str | None = None
    tokenizer_config: Mapping[str, Any] | None = None


def open_checkpoint(path: Path) -> Checkpoint:
    """The checkpoint of a Hugging Face directory or of a GGUF file.

    Raises `TreniError` naming the file, and the setting or tensor in it, that is missing, damaged or not known.
    """
    if path.is_file():
        from runtime_svc.weights.gguf_model import open_gguf  # its library is imported by who needs it

        return open_gguf(path)
    return checked(path, read_config(path), read_directory(path))


def checked(path: Path, config: ModelConfig, stored: Mapping[str, Tensor]) -> Checkpoint:
    """The checkpoint of that config and what is stored. Raises naming a tensor: missing, misshapen, or not asked for.

    What is stored decides about the head, as in transformers 5: beside a tied embedding one of its own is used if it
    differs, and stands for the embedding too if that is missing.
    """
    stored = _with_prefix(stored)
    config = _with_head(config, stored)
    if config.tied and HEAD in stored and EMBEDDING not in stored:
        stored = {EMBEDDING if name == HEAD else name: tensor for name, tensor in stored.items()}
    source = Source(path, stored)
    tensors = {spec.name: source.find(spec.name, spec.shape) for spec in config.tensors}
    copy_of_embedding = {HEAD} if config.tied else set()
    source.refuse_others(
        f"a {config.architecture.name} of {config.layers} layers",
        lambda name: name in copy_of_embedding or name.endswith(BUFFERS),
    )
    return Checkpoint(
        path=path,
        config=config,
        tensors=tensors,
        parameters=source.parameters,
        stored_dtype=source.stored_dtype,
    )


def read_config(directory: Path) -> ModelConfig:
    """The config of the checkpoint. Raises `TreniError` naming the file and the setting that is wrong.

    Of `generation_config.json` only the ids that end a turn are taken. Its sampling defaults are not: in the
    contract a request that sets nothing is greedy, so that the same request means the same with every checkpoint.
    """
    path = directory / "config.json"
    raw = read_json(path)
    architecture = _architecture(path, raw)
    return architecture.read(path, raw, _eos_ids(directory, raw))


def _architecture(path: Path, raw: Mapping[str, Any]) -> Architecture:
    names = raw.get("architectures")
    found = None
    if names is None:
        names = [raw.get("model_type")]
        found = ARCHITECTURES.of_type(names[0])
    elif isinstance(names, list) and names and isinstance(names[0], str):
        found = ARCHITECTURES.get(names[0])
    else:
        raise damaged(path, "architectures", expected="a list of names", got=repr(names)[:80])
    if found is None:
        raise unsupported(path, expected=f"one of {', '.join(ARCHITECTURES)}", got=repr(names[0]))
    return found


def _with_prefix(stored: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """By the names of a model with a head, where the model was stored without one (Qwen3-Embedding is)."""
    if EMBEDDING.removeprefix(PREFIX) not in stored or any(name.startswith(PREFIX) for name in stored):
        return stored
    return {name if name == HEAD else PREFIX + name: tensor for name, tensor in stored.items()}


def _with_head(config: ModelConfig, stored: Mapping[str, Tensor]) -> ModelConfig:
    head, embedding = stored.get(HEAD), stored.get(EMBEDDING)
    if not config.tied or head is None or embedding is None or _same(head, embedding):
        return config
    return replace(config, tied=False)


def _same(first: Tensor, second: Tensor) -> bool:
    if first.shape != second.shape:
        return False
    if first.dtype == second.dtype:
        return np.array_equal(first.mapped, second.mapped)
    return np.array_equal(first.widened(), second.widened())


def _eos_ids(directory: Path, config: Mapping[str, Any]) -> frozenset[int]:
    """Ids that end a turn. `generation_config.json` has the full list where `config.json` names one."""
    path = directory / "generation_config.json"
    generation = read_json(path) if path.exists() else {}
    ids = generation.get("eos_token_id")
    if ids is None:
        path, ids = directory / "config.json", config.get("eos_token_id")
    found = ids if isinstance(ids, list) else [ids]
    if not found or not all(type(i) is int and i >= 0 for i in found):
        raise damaged(path, "eos_token_id", expected="a token id or a list of them", got=repr(ids)[:80])
    return frozenset(found)

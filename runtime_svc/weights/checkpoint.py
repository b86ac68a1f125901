"""A decoder as it lies on disk: its shape, and the tensors that it is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from runtime_svc.models.architecture import ModelConfig
from runtime_svc.models.tensors import BUFFERS, EMBEDDING, HEAD, PREFIX
from runtime_svc.safetensor import Tensor
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

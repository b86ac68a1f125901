"""A Hugging Face directory as a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runtime_svc.directory import read_json
from runtime_svc.errors import damaged, unsupported
from runtime_svc.models import ARCHITECTURES, of_type
from runtime_svc.models.architecture import Architecture, ModelConfig
from runtime_svc.safetensor import read_directory
from runtime_svc.weights.checkpoint import Checkpoint, checked


def open_directory(directory: Path) -> Checkpoint:
    """The checkpoint in the directory. Raises `TreniError` naming the file, and the setting or tensor in it."""
    return checked(directory, read_config(directory), read_directory(directory))


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
        found = of_type(names[0])
    elif isinstance(names, list) and names and isinstance(names[0], str):
        found = ARCHITECTURES.get(names[0])
    else:
        raise damaged(path, "architectures", expected="a list of names", got=repr(names)[:80])
    if found is None:
        raise unsupported(path, expected=f"one of {', '.join(ARCHITECTURES)}", got=repr(names[0]))
    return found


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

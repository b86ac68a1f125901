"""Writes random-weight directories of real sizes: streamed to disk in bfloat16, with bounded memory."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from runtime_svc.models.tensors import TensorSpec
from runtime_svc.random_checkpoint import CHAT_TEMPLATE, byte_tokenizer
from runtime_svc.safetensor import to_bfloat16
from runtime_svc.weights.published_shapes import SHAPES, config_of
from treni.errors import Code, TreniError, invalid_argument

MAX_SHARD_BYTES = 4_000_000_000
"""The size of published files: Qwen3-0.6B comes in one, Qwen2.5-3B in two, Qwen3-4B in three."""

_CHUNK = 1 << 24
"""Values made at once: 32 MB of random bits, and as much of weights."""


def write_random_shards(
    directory: Path,
    shape: str,
    *,
    seed: int = 0,
    max_shard_bytes: int = MAX_SHARD_BYTES,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Path:
    """Writes a checkpoint directory of a shape of `published_shapes.SHAPES`; returns it.

    Every weight is drawn by itself: matrices from a normal distribution of variance 1 / inputs, which keeps
    activations near 1, biases with a deviation of 0.1, gains around 1 with the same; each rounded to the nearest
    bfloat16. The same shape and seed give the same bytes. The tokenizer has one token a byte and made-up words up
    to the ids at which the published control tokens begin, so that every id below them is text. `config.json`
    comes last: a directory that was not finished is not taken for a checkpoint.

    `progress` gets bytes written and bytes in all. Raises INVALID_ARGUMENT for an unknown shape or a directory that
    holds anything, FAILED_PRECONDITION when the disk has no room.
    """
    config = SHAPES.get(shape)
    if config is None:
        raise invalid_argument("shape_unknown", expected=f"one of {', '.join(SHAPES)}", got=repr(shape))
    tensors = config_of(shape).tensors
    _claim(directory, 2 * tensors.parameters)
    first_control = config["bos_token_id"]
    byte_tokenizer(first_control).save(str(directory / "tokenizer.json"))
    (directory / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")
    end_of_text, end_of_turn = first_control, config["eos_token_id"]
    _write_json(
        directory / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "eos_token": "<|im_end|>",
            "pad_token": "<|endoftext|>",
            "model_max_length": config["max_position_embeddings"],
        },
    )
    _write_json(
        directory / "generation_config.json",
        {"eos_token_id": [end_of_turn, end_of_text], "pad_token_id": end_of_text},
    )
    _write_shards(directory, list(tensors), seed, max_shard_bytes, progress)
    _write_json(directory / "config.json", config)
    return directory


def _claim(directory: Path, size: int) -> None:
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise invalid_argument(
            "directory_not_empty",
            expected=f"{directory} to be new or empty",
            got="something there",
            todo="name another directory, or remove it",
        )
    directory.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(directory).free
    if free < size + (16 << 20):
        raise TreniError(
            Code.FAILED_PRECONDITION,
            "disk_full",
            expected=f"{size / 1e9:.2f} GB free at {directory}",
            got=f"{free / 1e9:.2f} GB",
            todo="make room or name a directory on another disk",
        )


def _write_shards(
    directory: Path,
    tensors: Sequence[TensorSpec],
    seed: int,
    max_shard_bytes: int,
    progress: Callable[[int, int], None],
) -> None:
    shards = _split(tensors, max_shard_bytes)
    total = sum(2 * spec.elements for spec in tensors)
    numbers = {spec.name: number for number, spec in enumerate(tensors)}
    placed: dict[str, str] = {}
    done = 0
    for index, specs in enumerate(shards):
        file = "model.safetensors"
        if len(shards) > 1:
            file = f"model-{index + 1:05d}-of-{len(shards):05d}.safetensors"
        placed |= dict.fromkeys((spec.name for spec in specs), file)
        with (directory / file).open("wb") as out:
            out.write(_header(specs))
            for spec in specs:
                for chunk in _values(spec, (seed, numbers[spec.name])):
                    out.write(chunk.data)
                    done += chunk.nbytes
                    progress(done, total)
    if len(shards) > 1:
        _write_json(
            directory / "model.safetensors.index.json",
            {"metadata": {"total_size": total}, "weight_map": placed},
        )


def _split(tensors: Sequence[TensorSpec], max_shard_bytes: int) -> list[list[TensorSpec]]:
    """Tensors by shard, in order; one larger than a shard has one of its own."""
    shards: list[list[TensorSpec]] = [[]]
    room = max_shard_bytes
    for spec in tensors:
        size = 2 * spec.elements
        if size > room and shards[-1]:
            shards.append([])
            room = max_shard_bytes
        shards[-1].append(spec)
        room -= size
    return shards


def _header(tensors: Sequence[TensorSpec]) -> bytes:
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    at = 0
    for spec in tensors:
        end = at + 2 * spec.elements
        entries[spec.name] = {"dtype": "BF16", "shape": list(spec.shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # so that the data begin at a whole eight bytes
    return len(text).to_bytes(8, "little") + text


def _values(spec: TensorSpec, seed: tuple[int, int]) -> Iterator[npt.NDArray[np.uint16]]:
    """The tensor's bfloat16 bits, chunk by chunk.

    Sixteen random bits choose one of 65,536 equally likely quantiles of the distribution from a table in which the
    rounding is done already.
    """
    mean, deviation = _distribution(spec)
    table = to_bfloat16((mean + deviation * _quantiles()).astype(np.float32))
    generator = np.random.SFC64(np.random.SeedSequence(seed))
    left = spec.elements
    while left > 0:
        count = min(left, _CHUNK)
        bits = generator.random_raw(-(-count // 4)).view(np.uint16)[:count]
        yield table[bits]
        left -= count


@cache
def _quantiles() -> npt.NDArray[np.float64]:
    """The middles of 65,536 equally likely stretches of the standard normal distribution, in order."""
    inverse = NormalDist().inv_cdf
    return np.array([inverse((i + 0.5) / (1 << 16)) for i in range(1 << 16)])


def _distribution(spec: TensorSpec) -> tuple[float, float]:
    if len(spec.shape) == 2:
        return 0.0, spec.shape[1] ** -0.5
    return (0.0 if spec.name.endswith("bias") else 1.0), 0.1


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")

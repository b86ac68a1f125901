"""Reads safetensors files without a framework, so that bfloat16 works and damage is named by file and tensor."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from runtime_svc.directory import refuse_pointer
from runtime_svc.errors import damaged, missing, unsupported

_STORED: dict[str, np.dtype[np.generic]] = {
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
    "I64": np.dtype("<i8"),  # buffers such as BERT's position ids; never a weight
}
_NAME = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
_PRECISION = {dtype: name for name, dtype in _NAME.items()}
_MAX_HEADER_BYTES = 100 * 1024 * 1024
_INDEX = "model.safetensors.index.json"


class Tensor(Protocol):
    """One tensor of a checkpoint, not read yet. `name` is the one that it has in `file`; `mapped` are its bytes."""

    @property
    def file(self) -> Path:
        """Where it lies."""

    @property
    def name(self) -> str:
        """What it is called there."""

    @property
    def dtype(self) -> str:
        """The name of its type in that format."""

    @property
    def precision(self) -> str:
        """How its numbers are stored, such as "bfloat16"; "" where they are no floating-point numbers."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the tensor, matrices as (outputs, inputs)."""

    @property
    def mapped(self) -> npt.NDArray[np.uint8]:
        """What is stored, (bytes,) uint8, still mapped from the file."""

    def widened(self) -> npt.NDArray[np.float32]:
        """The values as float32, C-contiguous, on the CPU. Raises `TreniError` when one is NaN or infinite."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredTensor:
    """A tensor whose values are stored as they are: where it lies, its type and shape, and its bytes, still mapped.

    `offset` is the file position of the first byte of `mapped`, (bytes,) uint8.
    """

    file: Path
    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    mapped: npt.NDArray[np.uint8]

    @property
    def precision(self) -> str:
        """How its numbers are stored, such as "bfloat16"; "" where they are no floating-point numbers."""
        return _PRECISION.get(self.dtype, "")

    @property
    def raw(self) -> npt.NDArray[np.generic]:
        """The stored values in order, (elements,), still mapped and perhaps unaligned; bfloat16 as uint16."""
        return self.mapped.view(_STORED[self.dtype])

    def widened(self) -> npt.NDArray[np.float32]:
        """A float32 copy of the tensor, C-contiguous, on the CPU. Raises when a value is NaN or infinite."""
        values: npt.NDArray[np.float32]
        if self.dtype == "BF16":
            # bfloat16 is the upper half of a float32.
            values = np.left_shift(self.raw, 16, dtype=np.uint32).view(np.float32)
        else:
            values = self.raw.astype(np.float32)
        if not np.isfinite(values).all():
            raise damaged(self.file, self.name, expected="finite values", got="NaN or infinity")
        return values.reshape(self.shape)


def read_directory(directory: Path) -> dict[str, StoredTensor]:
    """Every tensor of a checkpoint directory by name, from one file or from the shards its index names."""
    single = directory / "model.safetensors"
    if single.is_file():
        return read_file(single)
    index = directory / _INDEX
    if not index.is_file():
        raise missing(directory, f"model.safetensors or {_INDEX}")
    placed = _read_index(index)
    tensors: dict[str, StoredTensor] = {}
    for shard in sorted(set(placed.values())):
        if not (directory / shard).is_file():
            raise missing(directory, f"the shard {shard}")
        for name, tensor in read_file(directory / shard).items():
            if name in tensors:
                got = f"one there and one in {tensors[name].file.name}"
                raise damaged(tensor.file, name, expected="in one shard only", got=got)
            tensors[name] = tensor
    for name, shard in placed.items():
        if name not in tensors or tensors[name].file.name != shard:
            raise damaged(directory / shard, name, expected="a tensor that the index names", got="none")
    return tensors


def read_file(path: Path) -> dict[str, StoredTensor]:
    """The tensors of one safetensors file, by name. Nothing is copied until a tensor is widened.

    Format: eight bytes of little-endian header length, a JSON header, the tensors' bytes.
    """
    refuse_pointer(path)
    size = path.stat().st_size
    if size < 8:
        raise damaged(path, "header", expected="a safetensors file", got=f"{size} bytes")
    mapped = np.memmap(path, dtype=np.uint8, mode="r")
    header_bytes = int(mapped[:8].view("<u8")[0])
    if header_bytes > min(size - 8, _MAX_HEADER_BYTES):
        raise damaged(path, "header", expected=f"at most {size - 8} bytes", got=f"{header_bytes}")
    try:
        header = json.loads(mapped[8 : 8 + header_bytes].tobytes(), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise damaged(path, "header", expected="a JSON header", got=str(error)) from None
    if not isinstance(header, dict):
        raise damaged(path, "header", expected="a JSON object", got=type(header).__name__)
    at = 8 + header_bytes
    tensors = {
        name: _tensor(path, name, entry, mapped, at)
        for name, entry in header.items()
        if name != "__metadata__"
    }
    _check_layout(path, tensors.values(), at, size)
    return tensors


def to_bfloat16(values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint16]:
    """The bits of the nearest bfloat16 of every value, ties to the even one; NaN stays NaN."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    # Half a unit of the last place kept, less one where that place is even: a carry rounds up.
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return np.where(np.isnan(values), 0x7FC0, rounded).astype(np.uint16)


def write_file(path: Path, tensors: Mapping[str, npt.NDArray[np.float32]], dtype: str) -> None:
    """Writes the tensors as `dtype`: "bfloat16", "float16" or "float32", rounded to the nearest."""
    header: dict[str, object] = {}
    parts: list[bytes] = []
    at = 0
    for name, values in tensors.items():
        stored = (to_bfloat16(values) if dtype == "bfloat16" else values.astype(dtype)).tobytes()
        span = [at, at + len(stored)]
        header[name] = {"dtype": _NAME[dtype], "shape": list(values.shape), "data_offsets": span}
        parts.append(stored)
        at += len(stored)
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(parts))


def _tensor(path: Path, name: str, entry: object, mapped: npt.NDArray[np.uint8], at: int) -> StoredTensor:
    """The tensor of one header entry; the data bytes begin at `at`."""
    try:
        if not isinstance(entry, Mapping):
            raise TypeError(f"entry is {type(entry).__name__}")
        dtype = str(entry["dtype"])
        shape = tuple(entry["shape"])
        begin, end = entry["data_offsets"]
        if not all(type(n) is int for n in (*shape, begin, end)):
            raise TypeError("a number that is not whole")
    except (KeyError, TypeError, ValueError) as error:
        raise damaged(path, name, expected="dtype, shape and data_offsets", got=repr(error)) from None
    stored = _STORED.get(dtype)
    if stored is None:
        raise unsupported(path, expected=f"{name} in one of {', '.join(_STORED)}", got=dtype)
    wanted = math.prod(shape) * stored.itemsize
    if min(shape, default=1) < 0 or begin < 0 or end - begin != wanted:
        raise damaged(path, name, expected=f"{wanted} bytes for {dtype} {shape}", got=f"{end - begin}")
    if end > mapped.size - at:
        raise damaged(
            path, name, expected=f"{end} data bytes", got=f"{mapped.size - at}: the file is truncated"
        )
    values = mapped[at + begin : at + end]
    return StoredTensor(file=path, name=name, dtype=dtype, shape=shape, offset=at + begin, mapped=values)


def _check_layout(path: Path, tensors: Iterable[StoredTensor], at: int, size: int) -> None:
    """Tensors lie one after the other, from the header's end to the file's: no byte is two tensors', or nobody's."""
    before = "the header"
    for tensor in sorted(tensors, key=lambda tensor: (tensor.offset, tensor.mapped.nbytes)):
        if tensor.offset != at:
            got = f"{tensor.offset}"
            raise damaged(path, tensor.name, expected=f"at byte {at}, right after {before}", got=got)
        at += tensor.mapped.nbytes
        before = tensor.name
    if at != size:
        raise damaged(
            path, "the data", expected=f"over at byte {at}, right after {before}", got=f"{size} bytes"
        )


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """An object of the header; JSON itself would let the last of two equal names win."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)} twice")
    return found


def _read_index(path: Path) -> dict[str, str]:
    refuse_pointer(path)
    try:
        placed = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_unique)["weight_map"]
        shards = {str(name): str(shard) for name, shard in placed.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise damaged(path, "weight_map", expected="tensor names to shard files", got=repr(error)) from None
    for name, shard in shards.items():
        if not shard or Path(shard).name != shard or not shard.isprintable():
            raise damaged(path, name, expected="in a file beside the index", got=repr(shard))
    return shards

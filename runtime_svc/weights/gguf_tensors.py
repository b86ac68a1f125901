"""The tensors of a GGUF file in the form that the rest of the runtime reads: dequantised when they are asked for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import gguf
import numpy as np
import numpy.typing as npt
from gguf.quants import dequantize

from runtime_svc.errors import damaged, unsupported
from runtime_svc.safetensor import StoredTensor, Tensor
from runtime_svc.weights.gguf_file import GgufEntry, GgufFile

_AS_THEY_ARE = {"F32", "F16", "BF16"}


@dataclass(frozen=True, kw_only=True, slots=True)
class QuantisedTensor:
    """One tensor whose values are made from what is stored, (elements,), each time they are asked for.

    `mapped` are its bytes. With `interleaved_heads`, which is 0 for none, its rows are those of that many heads whose
    rotated pairs lie side by side, as llama.cpp wants them; they are handed out in Hugging Face's order.
    """

    file: Path
    name: str
    kind: gguf.GGMLQuantizationType
    shape: tuple[int, ...]
    mapped: npt.NDArray[np.uint8]
    interleaved_heads: int = 0

    @property
    def dtype(self) -> str:
        """The name of its type, such as "Q4_1"."""
        return self.kind.name

    @property
    def precision(self) -> str:
        """How it is stored, such as "q4_1"."""
        return {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}.get(self.dtype, self.dtype.lower())

    def widened(self) -> npt.NDArray[np.float32]:
        """The values as float32, C-contiguous. Raises `TreniError` when one is NaN or infinite."""
        rows = self.mapped.reshape(*self.shape[:-1], -1)
        try:
            with np.errstate(all="ignore"):  # what is not finite is told by name below
                values = np.asarray(dequantize(rows, self.kind), np.float32).reshape(self.shape)
        except NotImplementedError:
            got = f"{self.name} in {self.dtype}"
            raise unsupported(self.file, expected="a quantisation that gguf can undo", got=got) from None
        if not np.isfinite(values).all():
            raise damaged(self.file, self.name, expected="finite values", got="NaN or infinity")
        if self.interleaved_heads:
            half = self.shape[0] // self.interleaved_heads // 2
            pairs = values.reshape(self.interleaved_heads, half, 2, -1)
            values = np.ascontiguousarray(pairs.swapaxes(1, 2)).reshape(self.shape)
        return np.ascontiguousarray(values)


def stored_tensors(file: GgufFile) -> dict[str, Tensor]:
    """The file's tensors by the names they have there.

    Raises `TreniError` naming one whose type is not known, or whose bytes are not its own or not there.
    """
    found: dict[str, Tensor] = {}
    end, before = 0, "the header"
    for entry in sorted(file.entries.values(), key=lambda entry: entry.offset):
        kind, size = _stored_as(file.path, entry)
        if entry.offset < end:
            raise damaged(file.path, entry.name, expected=f"behind {before}", got=f"at byte {entry.offset}")
        end, before = entry.offset + size, entry.name
        if end > file.mapped.size:
            got = f"{file.mapped.size} bytes: the file is truncated"
            raise damaged(file.path, entry.name, expected=f"whole at byte {end}", got=got)
        mapped = file.mapped[entry.offset : end]
        if kind.name in _AS_THEY_ARE:
            found[entry.name] = StoredTensor(
                file=file.path,
                name=entry.name,
                dtype=kind.name,
                shape=entry.shape,
                offset=entry.offset,
                mapped=mapped,
            )
        else:
            found[entry.name] = QuantisedTensor(
                file=file.path, name=entry.name, kind=kind, shape=entry.shape, mapped=mapped
            )
    if file.mapped.size - end >= file.alignment and found:
        got = f"{file.mapped.size} bytes"
        raise damaged(file.path, "the data", expected=f"over at byte {end}, behind {before}", got=got)
    return found


def uninterleaved(tensor: Tensor, heads: int) -> Tensor:
    """The same tensor with the rows of its heads in Hugging Face's order, from llama.cpp's for Llama."""
    if isinstance(tensor, QuantisedTensor):
        return replace(tensor, interleaved_heads=heads)
    assert isinstance(tensor, StoredTensor)
    return QuantisedTensor(
        file=tensor.file,
        name=tensor.name,
        kind=gguf.GGMLQuantizationType[tensor.dtype],
        shape=tensor.shape,
        mapped=tensor.mapped,
        interleaved_heads=heads,
    )


def _stored_as(path: Path, entry: GgufEntry) -> tuple[gguf.GGMLQuantizationType, int]:
    """Its type, and its size in bytes."""
    try:
        kind = gguf.GGMLQuantizationType(entry.kind)
        block, size = gguf.GGML_QUANT_SIZES[kind]
    except (ValueError, KeyError):
        got = f"{entry.name} of type {entry.kind}"
        raise unsupported(path, expected="types of tensors that gguf knows", got=got) from None
    if entry.shape[-1] % block:
        wanted = f"rows of whole blocks of {block}, as {kind.name} has them"
        raise damaged(path, entry.name, expected=wanted, got=f"rows of {entry.shape[-1]}")
    return kind, entry.elements // block * size

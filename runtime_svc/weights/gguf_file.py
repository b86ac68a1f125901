"""A GGUF file's header: its metadata and where its tensors lie. Damage is named, and nothing believed before it fits.

The reader of the `gguf` package is not used: it takes counts and lengths from the file as they are, and with one of
them flipped it runs until memory is full. The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from runtime_svc.directory import refuse_pointer
from runtime_svc.errors import damaged, unsupported

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_FLOAT32, _BOOL, _STRING, _ARRAY = 6, 7, 8, 9
_SCALARS: dict[int, np.dtype[Any]] = {
    0: np.dtype("<u1"),
    1: np.dtype("<i1"),
    2: np.dtype("<u2"),
    3: np.dtype("<i2"),
    4: np.dtype("<u4"),
    5: np.dtype("<i4"),
    _FLOAT32: np.dtype("<f4"),
    _BOOL: np.dtype("<u1"),
    10: np.dtype("<u8"),
    11: np.dtype("<i8"),
    12: np.dtype("<f8"),
}
"""NumPy's types by the numbers that stand for them in the file."""

_MAX_DIMENSIONS = 4
_LEAST_ENTRY_BYTES = 8 + 4 + 1
"""Of a key and its value, or of a tensor's entry: bounds how many of them there can be."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GgufEntry:
    """One tensor: `kind` is its type's number, `shape` as NumPy has it, `offset` counts from the file's start."""

    name: str
    kind: int
    shape: tuple[int, ...]
    offset: int

    @property
    def elements(self) -> int:
        """How many values it has."""
        return math.prod(self.shape)


@dataclass(frozen=True, kw_only=True, slots=True)
class GgufFile:
    """A GGUF file: its metadata by key, the entries of its tensors by name, and its bytes, still mapped.

    A value is a number, true or false, a string, a list of strings, or an array of numbers.
    """

    path: Path
    metadata: Mapping[str, Any]
    entries: Mapping[str, GgufEntry]
    mapped: npt.NDArray[np.uint8]
    alignment: int


def read_gguf(path: Path) -> GgufFile:
    """The file's header. Raises `TreniError` naming what in it cannot be right, or is of a kind that is not known."""
    refuse_pointer(path)
    if path.stat().st_size < len(_MAGIC) + 4 + 8 + 8:
        raise damaged(path, "the header", expected="a GGUF file", got=f"{path.stat().st_size} bytes")
    mapped = np.memmap(path, dtype=np.uint8, mode="r")
    if mapped[:4].tobytes() != _MAGIC:
        raise damaged(path, "the header", expected="a GGUF file", got=repr(mapped[:4].tobytes()))
    cursor = _Cursor(path, mapped)
    cursor.at = 4
    version = cursor.number("<I", "version")
    if version not in _VERSIONS:
        # A file of the other byte order has the version in its upper bytes.
        raise unsupported(path, expected="GGUF 2 or 3, little-endian", got=f"version {version:#x}")
    tensor_count, value_count = cursor.number("<Q", "tensor count"), cursor.number("<Q", "metadata count")
    metadata: dict[str, Any] = {}
    cursor.expect(value_count, _LEAST_ENTRY_BYTES, "the metadata")
    for _ in range(value_count):
        key = cursor.string("a metadata key")
        if key in metadata:
            raise damaged(path, key, expected="in the metadata once", got="twice")
        metadata[key] = cursor.value(key)
    alignment = metadata.get("general.alignment", 32)
    if type(alignment) is not int or alignment <= 0 or alignment % 8 or alignment & (alignment - 1):
        raise damaged(
            path, "general.alignment", expected="a power of two from 8 on", got=repr(alignment)[:80]
        )
    cursor.expect(tensor_count, _LEAST_ENTRY_BYTES, "the tensors' entries")
    listed = [cursor.entry() for _ in range(tensor_count)]
    base = -(-cursor.at // alignment) * alignment
    entries: dict[str, GgufEntry] = {}
    for name, kind, shape, offset in listed:
        if name in entries:
            raise damaged(path, name, expected="among the tensors once", got="twice")
        if offset % alignment:
            raise damaged(path, name, expected=f"at a multiple of {alignment}", got=f"{offset}")
        entries[name] = GgufEntry(name=name, kind=kind, shape=shape, offset=base + offset)
    return GgufFile(path=path, metadata=metadata, entries=entries, mapped=mapped, alignment=alignment)


class _Cursor:
    """Reads a header from front to back, and never past the file's end."""

    def __init__(self, path: Path, mapped: npt.NDArray[np.uint8]) -> None:
        self._path = path
        self._view = mapped.data  # a slice of a memmap costs ten times as much, and there are 100,000 strings
        self.at = 0

    def expect(self, count: int, size: int, what: str) -> None:
        """Raises unless `count` items of at least `size` bytes can still follow."""
        left = len(self._view) - self.at
        if count * size > left:
            raise damaged(
                self._path, what, expected=f"at most {left} bytes, which are left", got=f"{count} items"
            )

    def number(self, form: str, what: str) -> int:
        """One whole number in the form of `struct`."""
        (value,) = struct.unpack(form, self._take(struct.calcsize(form), what))
        return int(value)

    def string(self, what: str) -> str:
        """A length and that many bytes of UTF-8."""
        content = self._take(self.number("<Q", what), what)
        try:
            return content.decode("utf-8")
        except UnicodeDecodeError as error:
            raise damaged(self._path, what, expected="UTF-8", got=str(error)) from None

    def value(self, key: str) -> Any:
        """A value behind the number of its type."""
        kind = self.number("<I", key)
        if kind == _STRING:
            return self.string(key)
        if kind == _ARRAY:
            return self._array(key)
        if kind == _BOOL:
            return self._truth(key)
        scalar = self._scalars(kind, 1, key)[0]
        # A converter had a decimal, such as 1e-6: the shortest one of this float32 is that again.
        return float(str(scalar)) if kind == _FLOAT32 else scalar.item()

    def entry(self) -> tuple[str, int, tuple[int, ...], int]:
        """A tensor's name, type, shape as NumPy has it, and offset from where the tensors begin."""
        name = self.string("a tensor's name")
        count = self.number("<I", name)
        if not 1 <= count <= _MAX_DIMENSIONS:
            raise damaged(self._path, name, expected=f"of 1 to {_MAX_DIMENSIONS} dimensions", got=f"{count}")
        shape = tuple(self.number("<Q", name) for _ in range(count))[::-1]
        return name, self.number("<I", name), shape, self.number("<Q", name)

    def _array(self, key: str) -> Any:
        kind, count = self.number("<I", key), self.number("<Q", key)
        if kind == _STRING:
            self.expect(count, 8, key)
            return [self.string(key) for _ in range(count)]
        return self._scalars(kind, count, key)

    def _scalars(self, kind: int, count: int, key: str) -> npt.NDArray[Any]:
        dtype = _SCALARS.get(kind)
        if dtype is None:
            raise damaged(self._path, key, expected=f"a type from 0 to {max(_SCALARS)}", got=f"{kind}")
        self.expect(count, dtype.itemsize, key)
        return np.frombuffer(self._take(count * dtype.itemsize, key), dtype)

    def _truth(self, key: str) -> bool:
        value = self.number("<B", key)
        if value > 1:
            raise damaged(self._path, key, expected="0 or 1", got=f"{value}")
        return value == 1

    def _take(self, size: int, what: str) -> bytes:
        if size > len(self._view) - self.at:
            got = f"{len(self._view)} bytes: the file is truncated, or a length in it is wrong"
            raise damaged(self._path, what, expected=f"whole at byte {self.at + size}", got=got)
        content = self._view[self.at : self.at + size].tobytes()
        self.at += size
        return content

"""Where each tensor of a decoder lies in the device's one slab of weights. Pure: no device, no files."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from runtime_svc.models.architecture import ModelConfig
from runtime_svc.models.tensors import BlockTensors, TensorSpec
from treni.errors import Code, TreniError

ALIGNMENT = 256
MAX_HIDDEN = 5120
"""Eight elements for each of the 640 threads that a norm's registers leave room for."""

HEAD_DIMS = (8, 16, 32, 64, 128)
"""Widths of a head that the attention kernels are compiled for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Placed:
    """One tensor of the checkpoint in the slab: `offset` and `size` in bytes, float32 where `wide`, else bf16."""

    name: str
    shape: tuple[int, ...]
    offset: int
    wide: bool

    @property
    def elements(self) -> int:
        """How many values it has."""
        return math.prod(self.shape)

    @property
    def size(self) -> int:
        """Bytes in the slab."""
        return self.elements * (4 if self.wide else 2)


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerPlaces:
    """One block's tensors: offsets in bytes from the slab's start, of matrices (outputs, inputs) in bf16.

    `qkv` is queries, keys and values, `gate_up` gate and up, one under the other. Gains and `qkv_bias` are
    float32; None where an architecture has none.
    """

    attention_gain: int
    qkv: int
    qkv_bias: int | None
    query_gain: int | None
    key_gain: int | None
    o: int
    ffn_gain: int
    gate_up: int
    down: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """The slab: `size` bytes, every tensor in order, and the offsets by what they are for.

    `head` is `embedding` where the two are tied.
    """

    size: int
    tensors: tuple[Placed, ...]
    embedding: int
    layers: tuple[LayerPlaces, ...]
    final_gain: int
    head: int


def layout(config: ModelConfig) -> Layout:
    """The slab of a model. Raises FAILED_PRECONDITION when its shape is not one the kernels can do."""
    _check(config)
    slab, tensors = _Slab(), config.tensors
    embedding = slab.place(tensors.embedding)
    layers = tuple(_layer(slab, block) for block in tensors.blocks)
    final_gain = slab.place(tensors.final_gain)
    head = embedding if tensors.head is None else slab.place(tensors.head)
    return Layout(
        size=slab.size,
        tensors=tuple(slab.tensors),
        embedding=embedding,
        layers=layers,
        final_gain=final_gain,
        head=head,
    )


def _layer(slab: _Slab, block: BlockTensors) -> LayerPlaces:
    return LayerPlaces(
        attention_gain=slab.place(block.attention_gain),
        qkv=slab.place(block.q, block.k, block.v),
        qkv_bias=slab.place_if(block.q_bias, block.k_bias, block.v_bias),
        query_gain=slab.place_if(block.q_gain),
        key_gain=slab.place_if(block.k_gain),
        o=slab.place(block.o),
        ffn_gain=slab.place(block.ffn_gain),
        gate_up=slab.place(block.gate, block.up),
        down=slab.place(block.down),
    )


class _Slab:
    """Hands out places from the front."""

    def __init__(self) -> None:
        self.size = 0
        self.tensors: list[Placed] = []

    def place_if(self, *tensors: TensorSpec | None) -> int | None:
        """As `place`, or None where the architecture has no such tensors."""
        there = [spec for spec in tensors if spec is not None]
        return self.place(*there) if there else None

    def place(self, *tensors: TensorSpec) -> int:
        """The offset of the first of these tensors, which lie side by side; vectors are widened."""
        self.size = -(-self.size // ALIGNMENT) * ALIGNMENT
        first = self.size
        for spec in tensors:
            placed = Placed(name=spec.name, shape=spec.shape, offset=self.size, wide=len(spec.shape) == 1)
            self.tensors.append(placed)
            self.size += placed.size
        return first


def _check(config: ModelConfig) -> None:
    for expected, fits in _requirements(config):
        if not fits:
            raise TreniError(
                Code.FAILED_PRECONDITION,
                "checkpoint_unsupported",
                expected=f"a model whose {expected}, on the GPU",
                got=f"hidden {config.hidden}, ffn {config.ffn}, heads of {config.head_dim}",
                todo="use --backend numpy for this model",
            )


def _requirements(config: ModelConfig) -> Iterator[tuple[str, bool]]:
    yield f"heads are one of {HEAD_DIMS} wide", config.head_dim in HEAD_DIMS
    yield f"hidden width is at most {MAX_HIDDEN}", config.hidden <= MAX_HIDDEN
    yield "hidden and ffn widths are multiples of 8", config.hidden % 8 == 0 and config.ffn % 8 == 0

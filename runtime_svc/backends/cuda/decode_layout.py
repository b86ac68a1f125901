"""What host and device agree on in a decode step: macros, structures, sizes. The other half is `decode_shape.cuh`."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass

from runtime_svc.decoding.runner import Row
from runtime_svc.models.architecture import ModelConfig
from runtime_svc.ops import MAX_TOP, Sampled
from treni.errors import Code, TreniError

MAX_ROWS = 8
CONSUMERS = 8
REDUCERS = 3
THREADS = 32 * (CONSUMERS + 1 + REDUCERS)
SHARED_BYTES = 232448
"""All that a block can have of a Hopper multiprocessor."""

SAMPLE_THREADS = 1024
SAMPLE_SHARED_BYTES = 2048 * 8 + 33 * 8 + 16


class LayerPointers(ctypes.Structure):
    """Addresses of one layer's tensors: matrices bf16 (outputs, inputs), gains and biases float32, 0 where none."""

    _fields_ = tuple(
        (name, ctypes.c_uint64)
        for name in (
            "qkv",
            "output",
            "gate_up",
            "down",
            "attention_gain",
            "ffn_gain",
            "qkv_bias",
            "q_gain",
            "k_gain",
        )
    )


class RowControl(ctypes.Structure):
    """One row of a step; `token` -1 takes the one last drawn for the slot."""

    _fields_ = (
        ("seed", ctypes.c_uint64),
        ("draw", ctypes.c_uint64),
        ("top_p", ctypes.c_double),
        ("slot", ctypes.c_int32),
        ("position", ctypes.c_int32),
        ("token", ctypes.c_int32),
        ("top_k", ctypes.c_int32),
        ("temperature", ctypes.c_float),
        ("split_length", ctypes.c_uint32),
        ("splits", ctypes.c_uint32),
        ("span", ctypes.c_uint32),
        ("tasks", ctypes.c_uint32),
        ("held", ctypes.c_uint16),
        ("top", ctypes.c_uint16),
    )


class RowResult(ctypes.Structure):
    """What a step drew for one row, with the statistics of its raw logits."""

    _fields_ = (
        ("id", ctypes.c_int32),
        ("logprob", ctypes.c_float),
        ("entropy", ctypes.c_float),
        ("margin", ctypes.c_float),
        ("peak", ctypes.c_float),
        ("log_total", ctypes.c_float),
        ("finite", ctypes.c_int32),
        ("slot", ctypes.c_int32),
    )

    def sampled(self, likely: Sequence[tuple[int, float]] = ()) -> Sampled | None:
        """The token, with the most `likely` ones and their logits; None where the logits hold NaN or infinity."""
        if not self.finite:
            return None
        top = tuple((i, (logit - self.peak) - self.log_total) for i, logit in likely)
        return Sampled(id=self.id, logprob=self.logprob, entropy=self.entropy, margin=self.margin, top=top)


class LikelyToken(ctypes.Structure):
    """One of the most likely tokens of a row, with its raw logit."""

    _fields_ = (("id", ctypes.c_int32), ("logit", ctypes.c_float))


LIKELY_BYTES = MAX_TOP * ctypes.sizeof(LikelyToken)
"""What one row's most likely tokens take."""


def likely_of(found: bytes, count: int) -> list[tuple[int, float]]:
    """The first `count` of a row's most likely tokens with their logits, most likely first and equal ones by id."""
    tokens = (LikelyToken * count).from_buffer_copy(found)
    return sorted(((token.id, token.logit) for token in tokens), key=lambda token: (-token[1], token[0]))


class StepArguments(ctypes.Structure):
    """The one parameter of `decode_step`, passed by value."""

    _fields_ = (
        ("layers", ctypes.c_uint64),
        ("embedding", ctypes.c_uint64),
        ("head", ctypes.c_uint64),
        ("final_gain", ctypes.c_uint64),
        ("rope", ctypes.c_uint64),
        ("cache", ctypes.c_uint64),
        ("exchange", ctypes.c_uint64),
        ("logits", ctypes.c_uint64),
        ("last_token", ctypes.c_uint64),
        ("results", ctypes.c_uint64),
        ("layer_count", ctypes.c_uint32),
        ("vocabulary", ctypes.c_uint32),
        ("capacity", ctypes.c_uint32),
        ("slots", ctypes.c_uint32),
        ("rows", ctypes.c_uint32),
        ("epoch", ctypes.c_uint32),
        ("eps", ctypes.c_float),
        ("turn", ctypes.c_uint32),
        ("whole", ctypes.c_uint32 * 4),
        ("row", RowControl * MAX_ROWS),
    )


def next_launch(arguments: StepArguments, rows: int) -> bool:
    """Counts the launch before as done and prepares `arguments` for one over `rows` rows.

    True when the phased words must be zeroed first: words of rows that sat out have missed a change of phase.
    """
    fresh = bool(rows != arguments.rows)
    arguments.turn = 0 if fresh else (arguments.turn + 1) & 0xFFFFFFFF
    # A tag names a layer of a launch: no two launches of 2^32 / (layers + 1) share one.
    arguments.epoch = (arguments.epoch + arguments.layer_count + 1) & 0xFFFFFFFF
    arguments.rows = rows
    return fresh


@dataclass(frozen=True, kw_only=True, slots=True)
class DecodeShape:
    """The part of a model's shape that is compiled into the kernel. Counts in elements."""

    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int

    @classmethod
    def of(cls, config: ModelConfig) -> DecodeShape:
        """The shape of a model; `TreniError` (FAILED_PRECONDITION) for one that the kernel does not cover."""
        shape = cls(
            hidden=config.hidden,
            heads=config.heads,
            kv_heads=config.kv_heads,
            head_dim=config.head_dim,
            ffn=config.ffn,
        )
        if shape.head_dim not in (32, 64, 128) or shape.hidden % 8 or shape.ffn % 8:
            raise TreniError(
                Code.FAILED_PRECONDITION,
                "checkpoint_unsupported",
                expected="heads of 32, 64 or 128 elements, hidden size and ffn size multiples of 8",
                got=f"{shape}",
                todo="use the numpy backend for this checkpoint",
            )
        return shape

    @property
    def defines(self) -> dict[str, int]:
        """The macros that `decode.cu` is compiled with, for several rows; `SINGLE` 1 makes it the one for one row."""
        steps = -(-self.hidden // (32 * CONSUMERS))
        return {
            "CHUNK_STEPS": 5 if steps % 4 and steps % 5 == 0 else 4,
            "HIDDEN": self.hidden,
            "HEADS": self.heads,
            "KV_HEADS": self.kv_heads,
            "HEAD_DIM": self.head_dim,
            "FFN": self.ffn,
        }

    @property
    def max_splits(self) -> int:
        """Parts that the positions of a row are attended in, at most."""
        groups = -(-(self.heads // self.kv_heads) // 8)
        return min(max(128 // (self.kv_heads * groups), 1), 32)

    def whole_tiles(self, vocabulary: int, blocks: int) -> tuple[int, int, int, int]:
        """Tiles of 8 rows of weights that each of `blocks` blocks has at least: `StepArguments.whole`."""
        qkv = (self.heads + 2 * self.kv_heads) * self.head_dim
        return (
            self.hidden // 8 // blocks,
            qkv // 8 // blocks,
            self.ffn // 4 // blocks,
            -(-vocabulary // 8) // blocks,
        )

    @property
    def phased_words(self) -> int:
        """8-byte words at the start of the exchange that must be zero when the turn is 0."""
        squares = -(-self.hidden // 32) * 4
        return MAX_ROWS * (2 * self.hidden + self.heads * self.head_dim + self.ffn + 2 * squares) // 2

    def exchange_words(self, blocks: int) -> int:
        """8-byte words that the blocks of a step tell each other values in."""
        qkv = (self.heads + 2 * self.kv_heads) * self.head_dim
        splits = self.heads * self.max_splits * (self.head_dim + 2)
        return self.phased_words + MAX_ROWS * (2 * self.hidden + qkv + splits + 8 * blocks)


MIN_SPLIT = 64
"""Positions that a block attends at once, 8 a warp: fewer take it as long."""


def row_controls(shape: DecodeShape, rows: Sequence[Row], blocks: int) -> ctypes.Array[RowControl]:
    """Rows as the device's `blocks` blocks read them, (MAX_ROWS,)."""
    controls = (RowControl * MAX_ROWS)()
    groups = shape.kv_heads * -(-(shape.heads // shape.kv_heads) // 8)
    parts = groups * sum(split(shape, row.position + 1)[1] for row in rows)
    for control, row in zip(controls, rows, strict=False):
        control.slot, control.position, control.draw = row.slot, row.position, row.draw
        control.token = -1 if row.token is None else row.token
        params = row.params
        control.seed, control.temperature = params.seed, params.temperature
        control.top_p, control.top_k = params.top_p, params.top_k
        control.held, control.top = row.allowed is not None, row.top
        control.split_length, control.splits = split(shape, row.position + 1)
        # About one task to a block. The parts of a task share the queries; their results are what they would be alone.
        control.span = min(-(-parts // blocks), control.splits)
        control.tasks = groups * -(-control.splits // control.span)
    return controls


def split(shape: DecodeShape, positions: int) -> tuple[int, int]:
    """The length and the number of the parts in which a row's positions are attended: a function of their number alone.

    So that a row's bits do not depend on the other rows. Parts are whole eights.
    """
    length = max(MIN_SPLIT, -(-positions // shape.max_splits // 8) * 8)
    return length, -(-positions // length)

"""How a matrix product is cut up for `kernels/product.cu`: a rule of its shape, never of a measurement at start."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

ROWS, DEPTH = 128, 64
"""Rows of a tile, and the part of the depth that one slot of the ring holds."""

_COLUMNS = {
    "product": (64, 96, 128, 160, 192, 256),
    "gated": (48, 96, 160, 176, 192, 256),
    "heads": (128, 256),
}
"""Weight rows of a tile that the kernels are compiled for, by what becomes of the sums."""

_SPLITS = (1, 2, 3, 4, 6, 8)

_LONGEST_SUM = 8192
"""Elements that a float32 sum may run over: the matrix units cut off what does not fit when they add, which shrinks
longer sums by more than 1e-5 (docs/gpu-prefill.md)."""

_SHARED_BYTES = 227 * 1024
_MAX_SLOTS = 6


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """One way to compute out (rows, outputs) from x (rows, inputs).

    `kind` says what becomes of the sums: "product" float32, "gated" SwiGLU, "heads" queries, keys and values. `columns`
    weight rows to a tile, half of them gate and half up where gated. Each of `splits` parts of the depth gives sums of
    its own. `slots` of the ring; `share_weight`: pairs of blocks share weights, else rows of x.
    """

    rows: int
    outputs: int
    inputs: int
    kind: str
    columns: int
    splits: int
    slots: int
    share_weight: bool

    @property
    def kernel(self) -> str:
        """The kernel's name."""
        return f"{self.kind}_{self.columns}"

    @property
    def threads(self) -> int:
        """The threads of a block: eight multiplying warps, and one or, at 256 columns, four to fetch."""
        return 384 if self.columns == 256 else 288

    @property
    def gated(self) -> bool:
        """Whether out is SwiGLU's, of twice as many weight rows as outputs."""
        return self.kind == "gated"

    @property
    def blocks(self) -> int:
        """Parts of the depth that a slot holds."""
        return -(-self.inputs // DEPTH)

    @property
    def units(self) -> int:
        """Tiles that a pair of blocks takes, one each."""
        across = -(-self.rows // ROWS)
        along = -(-self.outputs // (self.columns // 2 if self.gated else self.columns))
        return (-(-across // 2) * along if self.share_weight else across * -(-along // 2)) * self.splits

    @property
    def slot_bytes(self) -> int:
        """The bytes of a slot and its two mbarriers."""
        return (ROWS + self.columns) * DEPTH * 2 + 16

    def clocks(self, multiprocessors: int) -> float:
        """Roughly how long it takes, in a multiprocessor's clocks.

        A model of the matrix units' rate, of those of the L2 cache and of the memory, and of what a tile takes besides,
        with numbers fitted to 387 measurements on one H200 (docs/gpu-prefill.md).
        """
        cache, per_tile, per_column, memory, latency, parts = _RATES[self.gated]
        waves = -(-self.units // (multiprocessors // 2))
        x, weight = ROWS * DEPTH * 2, self.columns * DEPTH * 2
        fetched = x + weight / 2 if self.share_weight else x / 2 + weight
        slot = max(4.0 * self.columns, fetched / cache, latency / self.slots)
        weights = self.outputs * self.inputs * (4 if self.gated else 2)
        busy = max(waves * -(-self.blocks // self.splits) * slot, weights / memory)
        written = self.splits * self.rows * self.outputs * 8 if self.splits > 1 else 0
        columns = self.columns / 2 if self.gated else self.columns
        return busy + waves * (per_tile + per_column * columns) + written / parts


_RATES = {False: (44, 830, 21, 2230, 3060, 4300), True: (35, 60, 11, 2100, 3250, 2760)}
"""By whether gated: bytes a clock from the L2 cache to one multiprocessor; clocks for a tile, and for a column of it;
bytes a clock from memory; clocks from a fetch to its arrival; bytes a clock of parts written and read again."""


@cache
def plan(rows: int, outputs: int, inputs: int, multiprocessors: int, *, kind: str = "product") -> Plan:
    """The plan for a shape: of those that there are, the one that the model finds fastest."""
    return min(
        plans(rows, outputs, inputs, kind=kind), key=lambda candidate: candidate.clocks(multiprocessors)
    )


def plans(rows: int, outputs: int, inputs: int, *, kind: str = "product") -> Iterator[Plan]:
    """All plans for a shape. The pair shares weights where there are two tiles of rows."""
    for columns in _COLUMNS[kind]:
        for splits in _SPLITS if kind == "product" else (1,):
            too_long = kind == "product" and splits * _LONGEST_SUM < inputs
            if too_long or splits > -(-inputs // DEPTH):
                continue
            yield Plan(
                rows=rows,
                outputs=outputs,
                inputs=inputs,
                kind=kind,
                columns=columns,
                splits=splits,
                slots=min(_SHARED_BYTES // ((ROWS + columns) * DEPTH * 2 + 16), _MAX_SLOTS),
                share_weight=-(-rows // ROWS) % 2 == 0,
            )

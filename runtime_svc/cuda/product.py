"""How a matrix product is cut up for `kernels/product.cu`: a rule of its shape, never of a measurement at start."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

ROWS, DEPTH = 128, 64
"""Rows of a tile, and the part of the depth that one slot of the ring holds."""

THREADS = 288
_COLUMNS = (64, 96, 128, 160, 256)
_GATED_COLUMNS = (48, 96, 160, 176, 192, 256)
"""Weight rows of a tile that the kernels are compiled for."""

_SPLITS = (1, 2, 3, 4, 6, 8)
_SHARED_BYTES = 227 * 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """One way to compute out (rows, outputs) from x (rows, inputs).

    `columns` weight rows to a tile, half of them gate and half up where `gated`. Each of `splits` parts of the depth
    gives sums of its own. `slots` of the ring; `share_weight`: pairs of blocks share weights, else rows of x.
    """

    rows: int
    outputs: int
    inputs: int
    gated: bool
    columns: int
    splits: int
    slots: int
    share_weight: bool

    @property
    def kernel(self) -> str:
        """The kernel's name."""
        return f"{'gated' if self.gated else 'product'}_{self.columns}"

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
        """Of a slot and its two mbarriers."""
        return (ROWS + self.columns) * DEPTH * 2 + 16

    def clocks(self, multiprocessors: int) -> float:
        """Roughly how long it takes, in a multiprocessor's clocks.

        A model of three rates, fitted to measurements on one H200 (docs/gpu-prefill.md): the matrix units', the L2
        cache's to a multiprocessor and the memory's.
        """
        waves = -(-self.units // (multiprocessors // 2))
        x, weight = ROWS * DEPTH * 2, self.columns * DEPTH * 2
        fetched = x + weight / 2 if self.share_weight else x / 2 + weight
        slot = max(4.0 * self.columns, fetched / 32)
        read = self.outputs * self.inputs * (4 if self.gated else 2) / 2400
        busy = max(waves * -(-self.blocks // self.splits) * slot, read)
        parts = self.splits * self.rows * self.outputs * 8 / 3000 if self.splits > 1 else 0
        return busy + waves * (1200 + 4 * self.columns) + parts


def plan(rows: int, outputs: int, inputs: int, multiprocessors: int, *, gated: bool = False) -> Plan:
    """The plan for a shape: of those that there are, the one that the model finds fastest."""
    return min(
        plans(rows, outputs, inputs, gated=gated), key=lambda candidate: candidate.clocks(multiprocessors)
    )


def plans(rows: int, outputs: int, inputs: int, *, gated: bool = False) -> Iterator[Plan]:
    """All plans for a shape. The pair shares weights where there are two tiles of rows."""
    for columns in _GATED_COLUMNS if gated else _COLUMNS:
        for splits in (1,) if gated else _SPLITS:
            if splits > -(-inputs // DEPTH):
                continue
            yield Plan(
                rows=rows,
                outputs=outputs,
                inputs=inputs,
                gated=gated,
                columns=columns,
                splits=splits,
                slots=min(_SHARED_BYTES // ((ROWS + columns) * DEPTH * 2 + 16), 6),
                share_weight=-(-rows // ROWS) % 2 == 0,
            )

"""What the scheduler needs of a model on a device: KV slots, prefill, and decode steps over rows of slots.

`NumpyRunner` and `CudaRunner` of `runtime_svc.backends` implement it; nothing above knows which one runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from runtime_svc.models.architecture import ModelConfig
from runtime_svc.ops import Allowed, Sampled, SamplingParams


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One sequence's part in a decode step.

    `token` goes into KV slot `slot` at `position`, the number of tokens before it there; the step then draws the
    sequence's `draw`-th token (0 is the one that the prefill drew). `token` None stands for the token that the
    launch just before drew for this slot, which need not have reached the host yet. `allowed` and `top` are those of
    `Ops.sample`; a row that is told what is allowed knows its token.
    """

    slot: int
    position: int
    token: int | None
    draw: int
    params: SamplingParams
    allowed: Allowed | None = None
    top: int = 0


class Pending(Protocol):
    """A launched step."""

    def wait(self) -> list[Sampled | None]:
        """The drawn tokens, one a row, in the order of the rows; blocks until the device has them.

        None for a row whose logits hold NaN or infinity: the other rows know nothing of it.
        """


class Runner(Protocol):
    """A loaded model on one device with a fixed number of KV slots. Not thread-safe."""

    @property
    def config(self) -> ModelConfig:
        """The model's shape."""

    @property
    def backend(self) -> str:
        """The name of the backend in every record: "numpy" or "cupy"."""

    @property
    def device(self) -> str:
        """What it runs on, in words."""

    @property
    def parameters(self) -> int:
        """Numbers among the weights; a head tied to the embedding counts once."""

    @property
    def stored_dtype(self) -> str:
        """How the weights are stored, such as "bfloat16"."""

    @property
    def loading_s(self) -> Mapping[str, float]:
        """Seconds that making it took, by those of the stages "weights", "upload", "kernels", "graphs" that it has."""

    @property
    def sampling_s(self) -> float:
        """Seconds spent so far choosing tokens, where that is told apart from the model's steps; 0 where it is not."""

    @property
    def slots(self) -> int:
        """How many KV slots there are, numbered from 0."""

    @property
    def capacity(self) -> int:
        """Tokens that a slot holds, at most the model's context length."""

    @property
    def max_rows(self) -> int:
        """Rows that one decode step takes."""

    @property
    def ahead(self) -> int:
        """Steps worth launching before the last one's tokens are read: 0 where a launch computes at once."""

    def prefill(
        self,
        slot: int,
        tokens: Sequence[int],
        start: int,
        params: SamplingParams | None,
        check: Callable[[], None],
        *,
        allowed: Allowed | None = None,
        top: int = 0,
    ) -> Sampled | None:
        """Puts `tokens` (at least one) into the slot at positions `start`..; draws token 0 from the last logits.

        `allowed` and `top` are those of `Ops.sample`.

        `start` is a length that the slot's state can go on from (`config.state`). With `params` None nothing is
        drawn. `check` is called before every chunk, and stops the work by raising: the state has then read some of
        the tokens, or none. Overwrites what the slot held from `start` on.
        Raises `TreniError` (INTERNAL, "logits_not_finite") when the model yields NaN or infinity.
        """

    def launch(self, rows: Sequence[Row]) -> Pending:
        """Starts one decode step over 1..max_rows rows of different slots."""

    def copy_prefix(self, source: int, target: int, length: int) -> None:
        """Copies the state after `length` tokens from one slot, which can go on from there, to another."""

    def prepare(self) -> bool:
        """Does some milliseconds of work that a later prefill would else have to do; whether more is left."""

"""What a backend says of itself before anything of it is imported."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from runtime_svc.decoding.runner import Runner
    from runtime_svc.weights.checkpoint import Checkpoint


class Load(Protocol):
    """The function that makes a backend's runner."""

    def __call__(self, checkpoint: Checkpoint, *, slots: int, capacity: int, max_rows: int) -> Runner:
        """The runner for a checkpoint, with `slots` slots of `capacity` tokens and steps of up to `max_rows` rows.

        Raises `TreniError` (FAILED_PRECONDITION): "backend_unavailable" on a machine that lacks what it needs, or
        naming file and tensor when the checkpoint is damaged or of a shape that it cannot do.
        """


@dataclass(frozen=True, kw_only=True, slots=True)
class Backend:
    """One way to compute a model. `load` imports what it needs when it is called.

    `refuse_absent` holds no device, and raises FAILED_PRECONDITION "backend_unavailable" on a machine that lacks what
    the backend needs, with what that is.
    `element_bytes` is the width of a weight in a matrix, and of an element of a state. `slot_tokens` are the tokens
    that a slot holds at most if nobody says otherwise: None, for the model's whole context, where a slot's memory is
    taken only as it fills.
    """

    name: str
    load: Load
    refuse_absent: Callable[[], None]
    element_bytes: int
    slot_tokens: int | None

"""What the scheduler and a request tell each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from runtime_svc.decoding.stages import Stages
from runtime_svc.ops import Allowed, Sampled, SamplingParams
from treni.errors import TreniError


@dataclass(frozen=True, kw_only=True, slots=True)
class Prompt:
    """What a request comes to: at most `budget` tokens are drawn after `tokens`; both fit a slot together.

    With `guided` the work is asked before each of its tokens which ones are allowed, when the one before is known.
    `top` is how many of the most likely tokens are told with each.
    """

    tokens: Sequence[int]
    key: str
    params: SamplingParams
    budget: int
    guided: bool = False
    top: int = 0


class Work(Protocol):
    """A request as the scheduler sees it, called by whoever drives the scheduler, one thread at a time."""

    @property
    def stages(self) -> Stages:
        """Where its time is written down."""

    @property
    def cancelled(self) -> TreniError | None:
        """Why nobody wants it any longer; None while somebody does."""

    def begin(self) -> Prompt:
        """The prompt of the work, which is admitted now. Raises `TreniError` to refuse itself."""

    def allowed(self) -> Allowed | None:
        """Which tokens may come next, None for any; asked only of a work that is guided."""

    def token(self, token: Sampled, *, last: bool) -> bool:
        """The work's next token is there; the `last` one ends the model's turn and is no text.

        Whether the work is complete with it, whatever the model would say next.
        """

    def end(self, reason: str, *, reused: int) -> None:
        """The work is complete: "stop" or "length". `reused` prompt tokens were not computed."""

    def fail(self, error: TreniError) -> None:
        """The work is over without an answer."""

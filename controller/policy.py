"""The failure policy: what is tried again, how often, after which wait and for how long. Pure values only."""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

from controller.ports import MODEL_HOP, TOOL_HOP
from treni.errors import Code, TreniError, invalid_argument


class Disposition(Enum):
    """What an attempt that ended with a status means for its call."""

    RETRY = "retry"
    """The hop failed, not the request: the same attempt may succeed."""
    REFUSED = "refused"
    """The request itself was found wrong and nothing happened: the model may correct it, a retry cannot."""
    FATAL = "fatal"
    """Neither a retry nor another request is known to help."""


DISPOSITION: dict[Code, Disposition] = {
    # An error never has this code; a peer that sends it is broken.
    Code.OK: Disposition.FATAL,
    # The peer gave the call up of its own accord: nobody here cancelled, or this would not be asked.
    Code.CANCELLED: Disposition.FATAL,
    # A handler that raised what it did not foresee.
    Code.UNKNOWN: Disposition.FATAL,
    Code.INVALID_ARGUMENT: Disposition.REFUSED,
    Code.DEADLINE_EXCEEDED: Disposition.RETRY,
    Code.NOT_FOUND: Disposition.REFUSED,
    Code.ALREADY_EXISTS: Disposition.FATAL,
    Code.PERMISSION_DENIED: Disposition.FATAL,
    Code.RESOURCE_EXHAUSTED: Disposition.RETRY,
    Code.FAILED_PRECONDITION: Disposition.REFUSED,
    Code.ABORTED: Disposition.RETRY,
    Code.OUT_OF_RANGE: Disposition.REFUSED,
    Code.UNIMPLEMENTED: Disposition.FATAL,
    # gRPC reports streams that were reset under a call with this code.
    Code.INTERNAL: Disposition.RETRY,
    Code.UNAVAILABLE: Disposition.RETRY,
    Code.DATA_LOSS: Disposition.FATAL,
    Code.UNAUTHENTICATED: Disposition.FATAL,
}


_WHERE_NOTHING_HAPPENED = frozenset({Code.RESOURCE_EXHAUSTED, Code.ABORTED})
"""Worth a retry from a server that is too busy; said of a call that may have happened, they mean something else."""

_LOST_HOP = frozenset({Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED})
"""What becomes of a call whose hop fails, whoever says so."""


def disposition_of(error: TreniError, *, effects: bool) -> Disposition:
    """What an attempt that ended in `error` means for its call, whose repeat has `effects` that users see or none.

    The code decides, but only a definite error is a refusal. A status that no service of ours made is no reason to
    do again what has effects, unless it says that the hop was lost: that is what retries are there for.
    """
    disposition = DISPOSITION[error.code]
    if not error.definite and (
        disposition is Disposition.REFUSED
        or error.code in _WHERE_NOTHING_HAPPENED
        or (effects and error.foreign and error.code not in _LOST_HOP)
    ):
        return Disposition.FATAL
    return disposition


MAX_TIMEOUT_S = 1e8
"""Three years. gRPC takes a timeout of three hundred for one that has passed."""

_TIMEOUT = (f"a number over 0 and at most {MAX_TIMEOUT_S:g}", lambda value: 0 < value <= MAX_TIMEOUT_S)
_NOT_NEGATIVE = ("a finite number of at least 0", lambda value: 0 <= value < math.inf)
_COUNT = ("a whole number of at least 0", lambda value: isinstance(value, int) and value >= 0)

_ALLOWED: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "run_timeout_s": _TIMEOUT,
    "model_timeout_s": _TIMEOUT,
    "tool_timeout_s": _TIMEOUT,
    "retries": _COUNT,
    "backoff_initial_s": _NOT_NEGATIVE,
    "backoff_multiplier": ("a finite number of at least 1", lambda value: 1 <= value < math.inf),
    "backoff_max_s": _NOT_NEGATIVE,
    "backoff_jitter": ("a number in [0, 1)", lambda value: 0 <= value < 1),
    "seed": ("a whole number in [0, 2^64)", lambda value: isinstance(value, int) and 0 <= value < 2**64),
    "max_turns": ("a whole number of at least 1", lambda value: isinstance(value, int) and value >= 1),
    "max_tool_calls": _COUNT,
    "max_malformed": _COUNT,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Policy:
    """How a run deals with slow and failing hops. Durations in seconds.

    `run_timeout_s` is the deadline of a run whose caller set none. `model_timeout_s` and `tool_timeout_s`
    bound one attempt, `retries` is how often one call is tried again. The wait before retry k (from 1) is
    min(backoff_max_s, backoff_initial_s * backoff_multiplier ** (k - 1)), times a factor drawn from
    1 - backoff_jitter to 1 + backoff_jitter. `max_turns`, `max_tool_calls` and `max_malformed` bound what the
    model may ask for in one run. Raises INVALID_ARGUMENT on an impossible value.
    """

    run_timeout_s: float = 30.0
    model_timeout_s: float = 20.0
    tool_timeout_s: float = 0.25
    retries: int = 1
    backoff_initial_s: float = 0.1
    backoff_multiplier: float = 2.0
    backoff_max_s: float = 2.0
    backoff_jitter: float = 0.2
    seed: int = 0
    max_turns: int = 16
    max_tool_calls: int = 16
    max_malformed: int = 2

    def __post_init__(self) -> None:
        for name, (allowed, holds) in _ALLOWED.items():
            value = getattr(self, name)
            if not holds(value):
                raise invalid_argument(
                    "policy_invalid",
                    expected=f"{name} to be {allowed}",
                    got=repr(value),
                    todo="correct the policy",
                )

    def timeout_s(self, hop: str) -> float:
        """How long one attempt on `hop` may take."""
        return {MODEL_HOP: self.model_timeout_s, TOOL_HOP: self.tool_timeout_s}[hop]

    def backoff_s(self, *, hop: str, request_index: int, call_index: int, attempt: int) -> float:
        """The wait before try `attempt` (from 1) of a call: a pure function of the seed and these counters."""
        try:
            growth = self.backoff_multiplier ** (attempt - 1)
        except OverflowError:
            growth = math.inf if self.backoff_initial_s > 0 else 1.0  # nothing, grown, is still nothing
        base_s = min(self.backoff_max_s, self.backoff_initial_s * growth)
        counter = struct.pack("<4Q", self.seed, request_index, call_index, attempt)
        digest = hashlib.blake2b(counter, digest_size=8, person=hop.encode()).digest()
        uniform = int.from_bytes(digest, "little") / 2**64
        return base_s * (1.0 + self.backoff_jitter * (2.0 * uniform - 1.0))

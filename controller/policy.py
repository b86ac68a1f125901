"""The failure policy: what is tried again, how often, after which wait and for how long. Pure values only."""

from __future__ import annotations

import hashlib
import math
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

from controller.ports import AGENT_HOP, MODEL_HOP, TOOL_HOP
from treni.errors import Code, TreniError, invalid_argument
from treni.fence import STALE


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


MAX_S = 365 * 24 * 3600.0
"""The longest time that a policy may give: gRPC takes a deadline of some centuries for one that is over."""

MAX_COUNT = 10**6


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


_DURATION = (
    f"a number over 0 and at most {MAX_S:.0f}",
    lambda value: _is_number(value) and 0 < value <= MAX_S,
)
_WAIT = (
    f"a number of at least 0 and at most {MAX_S:.0f}",
    lambda value: _is_number(value) and 0 <= value <= MAX_S,
)
_COUNT = (
    f"a whole number from 0 to {MAX_COUNT}",
    lambda value: _is_count(value) and 0 <= value <= MAX_COUNT,
)
_WHERE_NOTHING_HAPPENED = frozenset({Code.RESOURCE_EXHAUSTED, Code.ABORTED})
"""Worth a retry from a server that is too busy; said of a call that may have happened, they mean something else."""

_LOST_HOP = frozenset({Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED})
"""What becomes of a call whose hop fails, whoever says so."""


def disposition_of(error: TreniError, *, effects: bool) -> Disposition:
    """What an attempt that ended in `error` means for its call, whose repeat has `effects` that users see or none.

    The code decides, but only a definite error is a refusal. A status that no service of ours made is no reason to
    do again what has effects, unless it says that the hop was lost: that is what retries are there for. A server that
    was superseded has refused nothing of the request: the next attempt may reach the one that took over.
    """
    if error.kind == STALE and error.definite:
        return Disposition.RETRY
    disposition = DISPOSITION[error.code]
    if not error.definite and (
        disposition is Disposition.REFUSED
        or error.code in _WHERE_NOTHING_HAPPENED
        or (effects and error.foreign and error.code not in _LOST_HOP)
    ):
        return Disposition.FATAL
    return disposition


_ALLOWED: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "run_timeout_s": _DURATION,
    "model_timeout_s": _DURATION,
    "tool_timeout_s": _DURATION,
    "retries": _COUNT,
    "backoff_initial_s": _WAIT,
    "backoff_multiplier": (
        "a finite number of at least 1",
        lambda value: _is_number(value) and 1 <= value <= sys.float_info.max,
    ),
    "backoff_max_s": _WAIT,
    "backoff_jitter": ("a number in [0, 1)", lambda value: _is_number(value) and 0 <= value < 1),
    "seed": ("a whole number in [0, 2^64)", lambda value: _is_count(value) and 0 <= value < 2**64),
    "max_turns": (
        f"a whole number from 1 to {MAX_COUNT}",
        lambda value: _is_count(value) and 1 <= value <= MAX_COUNT,
    ),
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
    model may ask for until it answers. Raises INVALID_ARGUMENT on an impossible value.
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
        limits = {
            MODEL_HOP: self.model_timeout_s,
            TOOL_HOP: self.tool_timeout_s,
            AGENT_HOP: self.run_timeout_s,
        }
        return limits[hop]

    def backoff_s(self, *, hop: str, request_index: int, call_index: int, attempt: int) -> float:
        """The wait before try `attempt` (from 1) of a call: a pure function of the seed and these counters."""
        try:
            grown_s = self.backoff_initial_s * float(self.backoff_multiplier) ** (attempt - 1)
        except OverflowError:  # more than any number, and so more than the cap, unless it grows from nothing
            grown_s = math.inf if self.backoff_initial_s > 0 else 0.0
        base_s = min(self.backoff_max_s, grown_s)
        counter = struct.pack("<4Q", self.seed, request_index, call_index, attempt)
        digest = hashlib.blake2b(counter, digest_size=8, person=hop.encode()).digest()
        uniform = int.from_bytes(digest, "little") / 2**64
        return base_s * (1.0 + self.backoff_jitter * (2.0 * uniform - 1.0))

"""The ways in which a rule strikes: every N-th time, at a rate, or in bursts. Values that are asked with uniform draws.

A draw is 64 uniform bits that the schedule keys by its seed and the attempt's place, so that the answer is a pure
function of both. Probabilities are compared exactly: a float times 2^64 loses nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from treni.errors import Code, TreniError

DRAWS = 1 << 64
"""How many values a draw can have, from 0 up."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Every:
    """Each attempt whose number is divisible by `every`; where attempts are not numbered, one in `every` by draw."""

    every: int

    def __post_init__(self) -> None:
        if not isinstance(self.every, int) or isinstance(self.every, bool) or self.every < 1:
            raise invalid("every to be a whole number of at least 1", repr(self.every))

    def strikes(self, draw: int, *, inside: bool) -> bool:
        """Whether the draw is among the first 1/every of all; `inside` makes no difference."""
        return draw * self.every < DRAWS

    def to_dict(self) -> dict[str, object]:
        """The key of a profile's rule that says this."""
        return {"every": self.every}


@dataclass(frozen=True, kw_only=True, slots=True)
class Rate:
    """Each attempt with probability `rate`, independently of every other."""

    rate: float

    def __post_init__(self) -> None:
        _probability("rate", self.rate, above_zero=True)

    def strikes(self, draw: int, *, inside: bool) -> bool:
        """Whether the draw is among the first `rate` of all; `inside` makes no difference."""
        return draw < self.rate * DRAWS

    def to_dict(self) -> dict[str, object]:
        """The key of a profile's rule that says this."""
        return {"rate": float(self.rate)}


@dataclass(frozen=True, kw_only=True, slots=True)
class Burst:
    """The model of Gilbert and Elliott: a chain of two states over the requests, the same for a request's attempts.

    A request outside a burst is followed by one inside with probability `enter`, one inside by one outside with
    probability `leave`, so that a burst lasts 1 / leave requests on average and enter / (enter + leave) of all
    requests are inside one; with that share the first begins. Each attempt is then struck with probability `rate`
    inside and `rate_outside` outside, independently of every other. Sources: Gilbert (1960), *Capacity of a
    burst-noise channel*; Elliott (1963), *Estimates of error rates for codes on burst-noise channels*.
    """

    enter: float
    leave: float
    rate: float
    rate_outside: float = 0.0

    def __post_init__(self) -> None:
        for field in ("enter", "leave", "rate"):
            _probability(field, getattr(self, field), above_zero=True)
        _probability("rate_outside", self.rate_outside, above_zero=False)

    @property
    def share(self) -> float:
        """The long-run share of requests that are inside a burst."""
        return self.enter / (self.enter + self.leave)

    def strikes(self, draw: int, *, inside: bool) -> bool:
        """Whether the draw is among the first `rate` or, outside a burst, the first `rate_outside` of all."""
        return draw < (self.rate if inside else self.rate_outside) * DRAWS

    def to_dict(self) -> dict[str, object]:
        """The key of a profile's rule that says this."""
        fields = ("enter", "leave", "rate", "rate_outside")
        return {"burst": {field: float(getattr(self, field)) for field in fields}}


When: TypeAlias = Every | Rate | Burst


class Chain:
    """The states of a burst's chain, each computed once: n requests cost n draws, in whatever order they come.

    `draw` gives the draw of a place; the state at a place follows from the draws up to it, and from nothing else.
    """

    def __init__(self, burst: Burst, draw: Callable[[int], int]) -> None:
        self._burst = burst
        self._draw = draw
        self._inside: list[bool] = []

    def inside(self, place: int) -> bool:
        """Whether the request at that place, from 0, is inside a burst."""
        burst, states = self._burst, self._inside
        while len(states) <= place:
            draw = self._draw(len(states))
            if not states:
                states.append(draw < burst.share * DRAWS)
            elif states[-1]:
                states.append(draw >= burst.leave * DRAWS)
            else:
                states.append(draw < burst.enter * DRAWS)
        return states[place]


def invalid(expected: str, got: str) -> TreniError:
    """The error of a schedule, or a part of one, that cannot be."""
    return TreniError(
        Code.INVALID_ARGUMENT, "schedule_invalid", expected=expected, got=got, todo="correct the schedule"
    )


def _probability(field: str, value: object, *, above_zero: bool) -> None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 <= value <= 1 or (above_zero and value == 0):  # type: ignore[operator]
        least = "over 0" if above_zero else "of at least 0"
        raise invalid(f"{field} to be a number {least} and at most 1", repr(value))

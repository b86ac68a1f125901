"""How the numbers of a report are written."""

from __future__ import annotations

import math

from matrices.statistics.estimates import Estimate, LatencySummary

UNBOUNDED = "unbounded"
"""How an end of an interval is written that the data do not bound."""


def number(value: float | None, digits: int, *, sign: bool = False) -> str:
    """The value with that many decimals, never "-0"; "unbounded" for an infinity, "" for None."""
    if value is None:
        return ""
    if math.isinf(value):
        return UNBOUNDED
    return f"{round(value, digits) + 0.0:{'+' if sign else ''}.{digits}f}"


def ms(value_s: float | None, digits: int = 3, *, sign: bool = False) -> str:
    """Seconds in milliseconds; "" for None."""
    return "" if value_s is None else number(value_s * 1e3, digits, sign=sign)


def latency_ms(summary: LatencySummary | None, name: str) -> str:
    """One part of the summary in milliseconds; "" for None."""
    return "" if summary is None else ms(getattr(summary, name))


def interval(delta: Estimate) -> str:
    """A difference in milliseconds with its interval."""
    low, high = ms(delta.low, 2, sign=True), ms(delta.high, 2, sign=True)
    return f"{ms(delta.value, 2, sign=True)} ms [{low}, {high}]"


def yes(value: bool) -> str:
    """The word for a truth value."""
    return "yes" if value else "no"

"""The published split-host matrix: runtime on a GPU host, controller and tools on a CPU host, 48 requests a profile."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class PublishedRow:
    """One profile as published: the external arm's mean latency over the internal one's, its errors and retries.

    `errors` are over all requests, `retries` the mean over the successful ones; the internal arm had none of either.
    """

    ratio: float
    errors: float
    retries: float


PUBLISHED_ROWS = {
    "p00": PublishedRow(ratio=0.995, errors=0.0, retries=0.0),
    "p01": PublishedRow(ratio=0.998, errors=0.0, retries=0.021),
    "p02": PublishedRow(ratio=1.042, errors=0.0, retries=0.021),
    "p03": PublishedRow(ratio=1.001, errors=0.0417, retries=0.065),
    "p04": PublishedRow(ratio=1.087, errors=0.0833, retries=0.182),
    "p05": PublishedRow(ratio=1.045, errors=0.0833, retries=0.091),
}
"""Each profile by its short name."""

"""How long tests wait, so that none passes or fails by how fast the machine is.

A limit on something that must happen is for hangs alone: `HANG_S`. Where a limit itself is the subject, and yet
something has to happen before it strikes, a test tries `longer_and_longer` until it did.
"""

from __future__ import annotations

from collections.abc import Iterator

HANG_S = 600.0
"""Several times the slowest wait that was seen on a machine with twice as many busy processes as cores."""


def longer_and_longer(first_s: float) -> Iterator[float]:
    """`first_s`, and then ever four times as long, up to what is a hang. A test that runs out of them has failed."""
    limit_s = first_s
    while limit_s < HANG_S:
        yield limit_s
        limit_s *= 4
    raise AssertionError(f"it did not happen within {limit_s / 4:g} s")

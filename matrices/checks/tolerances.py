"""How far times may lie from what plan and clocks say. docs/checker.md has how each was measured."""

from __future__ import annotations

from collections.abc import Sequence

CLOCK_S = 0.001
"""How far below zero a part of a time may lie: parts are differences of clocks read in different processes."""

LATE_S = 0.8
"""How much later than planned a process may act: on a machine with more to do than processors, a wake-up waits.

For each request in flight: they wait for one another too."""

GAP_S = 5.0
"""How long the harness may take between two steps of a sequential campaign; a block's end waits for the disk."""

SETTLE_S = 5.0
"""How long connections may take to recover from a fault of a host, beyond as long as that lasted."""

START_S = 600.0
"""How long a start of processes may take, between the last step before and the first one after."""

QUIET_S = 0.04
"""What is mere overhead lies under this, for each request in flight, at least once in `ENOUGH` runs of each."""

ENOUGH = 4
"""The number of values from which on the least of them is judged by `QUIET_S`, for each request in flight.

Those of requests that are in flight together are late together, by one and the same moment of the machine."""

BUSY = 0.75
"""The share of the processor time that others may have had, up to which the limits above were measured."""

MOST_BUSY = 0.98
"""The share from which on a cell says nothing more of how slow it was."""

WALL_STEP_S = 1.0
"""How far the wall clock may move against the monotonic one between two requests."""


def never_quiet_s(overheads: Sequence[tuple[float, float]], in_flight: int) -> float | None:
    """The least of several overheads, in seconds, where each of them is longer than overhead can be; else None.

    Each is told with how slow the machine was then, 1 for as slow as anywhere. Those count first in which it was no
    slower, the others only where there are too few: nobody makes a whole cell's overhead likely by one slow block.
    """
    calm = [one for one in overheads if one[1] == 1]
    enough = ENOUGH * in_flight
    judged = calm if len(calm) >= enough else overheads
    if len(judged) < enough:
        return None
    least_s, slow = min(judged, key=lambda one: one[0] / one[1])
    return None if least_s <= QUIET_S * in_flight * slow else least_s

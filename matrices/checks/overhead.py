"""What is mere overhead, over all runs of an arm: it varies with the machine, and is small at least once.

One late wake-up is the machine's doing. Lateness in every run is a policy that was not followed, or figures that were
changed throughout; the least of several values tells the two apart on a loaded machine too.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise

from matrices.checks.finding import Finding
from matrices.checks.tolerances import QUIET_S, never_quiet_s
from matrices.evidence.events import CellStarted
from matrices.evidence.hops import hops_of
from matrices.evidence.runs import Run
from matrices.planning.expectation import Expectation


def seen_apart_s(starts: Iterable[CellStarted]) -> float:
    """Seconds that a round trip between two of the cell's processes takes at most, by the harness's own to each.

    That of the two which are farthest away, one after the other; 0 where they are as near as on one machine.
    """
    apart_s = max(
        (sum(sorted(2 * clock.error_s for clock in start.clocks.values())[-2:]) for start in starts),
        default=0.0,
    )
    return apart_s if apart_s > QUIET_S / 2 else 0.0


def of_overhead(
    arm: str, runs: Mapping[int, Run], expected: Expectation, concurrency: int, *, apart_s: float = 0.0
) -> Iterator[Finding]:
    """Findings about parts of the arm's times that are never as small as overhead can be.

    A way takes as long as was declared, or was seen where that is longer: `apart_s`. None where faults break hosts or
    strike them: after each of them a process is cold and connections are made anew.
    """
    if expected.breaks_hosts or expected.disturbs:
        return
    planned = {pair.pair: pair.runs[arm] for pair in expected.pairs}
    away_s = max(expected.away_s, apart_s)
    parts: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for pair, run in runs.items():
        slow = expected.slow(pair)
        hops = hops_of(run)
        if hops is None:
            continue
        if planned[pair].entry is None:
            parts["the way from the client and back"].append((hops.client - away_s, slow))
        parts["what nothing explains"].append((hops.unexplained, slow))
        if run.record is not None:
            parts["the loop within its attempts"].append((run.record.loop_s - hops.loop, slow))
        wanted = planned[pair].attempts
        if not any(want.fault is not None for want in wanted):
            parts["the loop"].append((hops.loop, slow))
            at_model = sum(one.hop == "model" for one in run.attempts)
            at_tools = len(run.attempts) - at_model
            # Without the engine's own time there is no telling the trip from the model's work.
            if at_model > 0 and expected.comparison.arm(arm).engine_timings:
                trip_s = hops.model_hop / at_model - _way_s(expected, arm, "model", away_s)
                parts["a trip to the model and back"].append((trip_s, slow))
            if at_tools > 0:
                trip_s = hops.tool_hop / at_tools - _way_s(expected, arm, "tool", away_s)
                parts["a trip to a tool and back"].append((trip_s, slow))
        for (before, after), want in zip(pairwise(run.attempts), wanted[1:], strict=False):
            late_s = after.start_s - before.start_s - before.duration_s - want.backoff_s
            parts["a backoff, beyond the policy's" if want.attempt > 0 else "the loop between calls"].append(
                (late_s, slow)
            )
        for want, got in zip(wanted, run.attempts, strict=False):
            if want.fault is None or planned[pair].hurried or want.outcome == "ok":
                continue
            way_s = _way_s(expected, arm, want.hop, away_s) if want.outcome == "fail" else 0.0
            parts[f"an attempt under a {want.fault.kind.name}, beyond its time"].append(
                (got.duration_s - want.held_s - way_s, slow)
            )
    for name, values in parts.items():
        least_s = never_quiet_s(values, concurrency)
        if least_s is not None:
            detail = f"{name} is never under {least_s * 1e3:.3f} ms in {len(values)} runs"
            yield Finding(kind="overhead_unlikely", cell=expected.cell, arm=arm, detail=detail)


def _way_s(expected: Expectation, arm: str, hop: str, away_s: float) -> float:
    """Seconds that the longest round trip on the arm's hop takes, by what it is made to be or else `away_s`."""
    network = expected.network(arm, hop)
    return away_s if network is None else network.most_s

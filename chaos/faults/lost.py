"""The endings of an attempt whose caller is left without an answer, and cannot know whether the tool ran."""

from __future__ import annotations

from chaos.faults.kind import Ending, Struck
from treni.errors import Code

CODE = Code.DEADLINE_EXCEEDED.name


def timed_out(name: str, struck: Struck, *, tool_runs: bool, least_s: float) -> Ending:
    """The ending of an attempt that reaches its timeout under the kind `name`, after `least_s` at least."""
    return lost(CODE, name, struck, tool_runs=tool_runs, least_s=least_s)


def lost(
    code: str,
    name: str,
    struck: Struck,
    *,
    tool_runs: bool,
    least_s: float = 0.0,
    most_s: float | None = None,
    caller_dies: bool = False,
) -> Ending:
    """The ending with that status after `least_s` to `most_s` (default: the timeout) under the kind `name`."""
    kinds = {code.lower()}
    if struck.in_process:
        # Two limits of one deadline stand around the tool; either may be the first to strike.
        kinds.add(f"injected_{name}")
    return Ending(
        outcome="unknown",
        code=code,
        kinds=frozenset(kinds),
        tool_runs=tool_runs,
        least_s=least_s,
        most_s=struck.timeout_s if most_s is None else most_s,
        caller_dies=caller_dies,
    )

"""What a profile whose faults break hosts must be like: it ends alike on any machine, and is kind to the one it has."""

from __future__ import annotations

from collections.abc import Iterable

from chaos.faults import FaultKind, Struck
from matrices.planning.plan import PlannedCell
from treni.errors import invalid_argument

MAX_LEAK_MB = 1024
"""How much one host may come to keep in a cell, by its schedule."""

MAX_HOGGED_MB = 4096
"""How much hogs may hold at once, should all requests in flight meet one."""

SHORT, LONG = 0.5, 1.1
"""A fault that takes at most `SHORT` of a timeout leaves time to answer on any machine; one that takes `LONG` of it
leaves none, also where a deadline is rounded up on its way. In between the machine's speed would decide."""


def refuse_uncertain(cell: PlannedCell, *, concurrency: int) -> None:
    """Raises INVALID_ARGUMENT for a cell whose faults break hosts in a way that cannot be predicted, or be afforded."""
    if not cell.breaks_hosts:
        return
    spec, policy = cell.profile.faults, cell.profile.policy
    where = f"in {cell.profile.name}"
    _require(
        spec.by == "request",
        "host_fault_by_attempt",
        expected=f'by = "request" {where}, whose faults break hosts',
        got='by = "attempt"',
        todo='set by = "request": a host that starts anew has lost count of the attempts',
    )
    _require(
        "agent" not in spec.hops,
        "host_fault_beside_agent",
        expected=f"no rules on the agent hop {where}, whose faults break hosts",
        got='a rule with hop = "agent"',
        todo="take two profiles: a client whose own call failed can't tell whether a host was gone too",
    )
    for kind in cell.kinds:
        if kind.breaks_host and kind.ending(Struck(timeout_s=policy.tool_timeout)).is_error:
            _require(
                policy.retries == 0,
                "host_fault_retried",
                expected=f"retries = 0 {where}, in which a {kind.name} takes the host away",
                got=f"retries = {policy.retries}",
                todo="set retries = 0: what a retry meets depends on how soon the host is back",
            )
        if kind.standstill_s > 0:
            _require_room(kind, policy.tool_timeout, policy.run_timeout, where)
        _require(
            kind.held_mb * concurrency <= MAX_HOGGED_MB,
            "hog_too_large",
            expected=f"hogs of at most {MAX_HOGGED_MB} MiB together {where}",
            got=f"{kind.held_mb} MiB for each of {concurrency} requests at once",
            todo="lower memory_mb or --concurrency",
        )
    for arm in cell.arms:
        leaked_mb = sum(kind.kept_mb for kind in _planned(cell, arm))
        _require(
            leaked_mb <= MAX_LEAK_MB,
            "leak_too_large",
            expected=f"leaks of at most {MAX_LEAK_MB} MiB together {where}",
            got=f"{leaked_mb} MiB in the {arm} arm",
            todo="lower size_mb, let it strike less often, or take fewer --runs",
        )


def _require_room(kind: FaultKind, tool_timeout_s: float, run_timeout_s: float, where: str) -> None:
    duration_s = kind.standstill_s
    # Of a kind that never ends an attempt by itself nobody knows how one ends that it outlasts.
    may_outlast = kind.ending(Struck(timeout_s=duration_s / LONG)).is_error
    outlasts = may_outlast and duration_s >= LONG * tool_timeout_s
    _require(
        outlasts or duration_s <= SHORT * tool_timeout_s,
        "host_fault_uncertain",
        expected=f"a {kind.name} of at most {SHORT * tool_timeout_s:g} s"
        + (f" or at least {LONG * tool_timeout_s:g} s" if may_outlast else "")
        + f" {where}, whose tool_timeout is {tool_timeout_s:g} s",
        got=f"{duration_s:g} s",
        todo="change its duration or tool_timeout: so close, the machine's speed would decide how the attempt ends",
    )
    _require(
        duration_s <= SHORT * run_timeout_s,
        "host_fault_uncertain",
        expected=f"a {kind.name} of at most half the run_timeout of {run_timeout_s:g} s {where}",
        got=f"{duration_s:g} s",
        todo="shorten it, or allow the run more time",
    )


def _planned(cell: PlannedCell, arm: str) -> Iterable[FaultKind]:
    """The kinds of the faults that the arm is bound to meet, one for each."""
    prediction = cell.prediction(arm)
    if prediction is None:
        return
    for request in prediction.requests:
        for fault in request.faults:
            yield fault.kind


def _require(holds: bool, kind: str, *, expected: str, got: str, todo: str) -> None:
    if not holds:
        raise invalid_argument(kind, expected=expected, got=got, todo=todo)

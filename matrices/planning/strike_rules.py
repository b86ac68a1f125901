"""What a profile whose faults strike hosts must be like, so that the struck attempt ends alike on any machine."""

from __future__ import annotations

from chaos.faults import Ending, FaultKind, Struck
from chaos.faults.lost import CODE
from matrices.planning.host_rules import LONG, SHORT
from matrices.planning.plan import PlannedCell
from treni.channels import KEEPALIVE_TIMEOUT_S
from treni.errors import invalid_argument

CONNECTED = 0.8
"""The share of the time after which a silent connection is given up that an attempt may wait for its timeout: later the
connection might end it."""

LATE = 0.4
"""The share of the same that an outage may last which the attempt is to outlive: what was lost is sent again within as
long a time after it, and all of it has to come before the connection is given up."""


def refuse_uncertain_strikes(cell: PlannedCell) -> None:
    """Raises INVALID_ARGUMENT for a cell whose struck attempts end by how fast a machine is."""
    if not cell.disturbs:
        return
    run_timeout_s = cell.profile.policy.run_timeout
    for schedule in cell.schedules:
        timeout_s = cell.timeouts_s[schedule.hop]
        for kind in schedule.kinds:
            ending = kind.ending(Struck(timeout_s=timeout_s))
            wanted = _wanted(kind, ending, timeout_s)
            _require(wanted == "", cell, kind, schedule.hop, timeout_s, wanted)
            longest_s = SHORT * run_timeout_s
            _require(
                kind.outage_s <= longest_s,
                cell,
                kind,
                schedule.hop,
                timeout_s,
                f"a duration of at most {longest_s:g} s, half the run_timeout",
            )


def _wanted(kind: FaultKind, ending: Ending, timeout_s: float) -> str:
    """What would make the ending certain; "" where it is."""
    if ending.code == CODE:
        if kind.outage_s < LONG * timeout_s:
            return f"a duration of at least {LONG * timeout_s:g} s"
        if timeout_s > CONNECTED * KEEPALIVE_TIMEOUT_S:
            return f"a timeout of at most {CONNECTED * KEEPALIVE_TIMEOUT_S:g} s, before the connection is given up"
    elif not ending.is_error and ending.least_s > 0:
        most_s = min(SHORT / 2 * timeout_s, LATE * KEEPALIVE_TIMEOUT_S)
        if ending.least_s > most_s:
            least_s = LONG * timeout_s
            return f"it to hold an attempt for at most {most_s:g} s, or to last for at least {least_s:g} s"
    return ""


def _require(
    holds: bool, cell: PlannedCell, kind: FaultKind, hop: str, timeout_s: float, wanted: str
) -> None:
    if not holds:
        raise invalid_argument(
            "strike_uncertain",
            expected=f"{wanted}, for the {kind.name} of {cell.profile.name}",
            got=f"{kind.outage_s:g} s on the {hop} hop, whose timeout is {timeout_s:g} s",
            todo="change its duration or the timeouts: so close, the machine's speed would decide how the attempt ends",
        )

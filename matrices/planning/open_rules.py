"""What a profile must be like where nobody knows before a run which calls it makes: it is checked by what it made."""

from __future__ import annotations

from matrices.planning.plan import PlannedCell
from matrices.planning.steps import AGENT
from treni.errors import invalid_argument


def refuse_unknowable(cell: PlannedCell) -> None:
    """Raises INVALID_ARGUMENT for a cell of which nobody could say after the run whether it went as planned."""
    arms = [arm.name for arm in cell.comparison if cell.opens(arm.name) or not arm.seen]
    if not arms:
        return
    if cell.breaks_hosts or cell.disturbs:
        raise invalid_argument(
            "calls_unknown",
            expected=f"told calls in every arm for {cell.profile.name}, whose faults harm hosts: who they hurt is told "
            "by what each run has left to do",
            got=f"calls of {', '.join(arms)} that nobody knows before",
            todo="compare internal and external with tasks that tell their calls, or leave the profile out",
        )
    for name in arms:
        hops = {schedule.hop for schedule in cell.schedules_on(name)}
        if AGENT in hops and len(hops) > 1:
            raise invalid_argument(
                "calls_unknown",
                expected=f"rules on the agent hop, or on others, in {cell.profile.name}: not both",
                got=f"both, and calls of {name} that nobody knows: a run whose answer is lost tells of none",
                todo="take two profiles, or tell the calls of each task",
            )

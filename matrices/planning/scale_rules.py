"""What a profile must be like for several controllers or tool services: its faults strike as they are planned."""

from __future__ import annotations

from matrices.planning.plan import PlannedCell
from treni.errors import invalid_argument


def refuse_several(cell: PlannedCell, *, concurrency: int, workers: int) -> None:
    """Raises INVALID_ARGUMENT for a cell whose schedule could not be kept by as many processes as it is to have."""
    if workers > concurrency:
        raise invalid_argument(
            "workers_idle",
            expected=f"at most as many workers as requests at once, {concurrency}",
            got=str(workers),
            todo="use more --concurrency, or fewer --workers",
        )
    if workers > 1 and "agent" in cell.profile.faults.hops:
        raise invalid_argument(
            "workers_without_lanes",
            expected=f"one worker for {cell.profile.name}, which faults the client's call",
            got=f"{workers} workers",
            todo="use --workers 1: the harness alone has proxies before the agents",
        )
    faults, replicas = cell.profile.faults, cell.replicas
    if replicas.controllers > 1 and faults.rules and faults.by == "attempt":
        raise invalid_argument(
            "controllers_not_exact",
            expected=f"a schedule by request in {cell.profile.name} for {replicas.controllers} controllers",
            got='by = "attempt", a count that no two controllers share',
            todo='use one controller, or a profile with by = "request"',
        )
    if replicas.several and (cell.breaks_hosts or cell.disturbs):
        raise invalid_argument(
            "host_fault_beside_others",
            expected=f"one controller and one tool service for {cell.profile.name}, whose faults harm hosts",
            got=f"{replicas.controllers} controllers and {replicas.tool_services} tool services",
            todo="run it by itself: who else a fault hurt is told by the one host of the arm's tools",
        )

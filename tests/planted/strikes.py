"""The bugs planted in faults that strike hosts: struck elsewhere, twice or not at all, never healed, nobody's fault."""

from __future__ import annotations

from tests.planted.bug import Bug, Campaign, Tests
from tests.planted.campaigns import PAUSED

_STRUCK = Campaign(suite="ledger", site="host", rules=PAUSED)
_CHECK = "tests/matrices/checks/test_disturbances.py::test_what_does_not_hold_together_is_found"
_HOST = "tests/matrices/topologies/test_host_role.py::"
_SERVICER = "matrices/topologies/host_role.py"
_DISTURBANCES = "matrices/checks/disturbances.py"

STRIKES = (
    Bug(
        name="strike-not-made",
        file="chaos/striking.py",
        old='        if fault is None or fault.site != "host":\n',
        new='        if fault is None or fault.site == "host":\n',
        breaks="an attempt goes out under a fault that never came",
        seen_by=_STRUCK,
        kinds=("fault_not_delivered", "fault_not_observed"),
    ),
    Bug(
        name="strike-after-the-attempt",
        file="chaos/striking.py",
        old="        await self._striker.strike(details)\n        return await continuation(details, request)\n"
        "\n\nclass _Stream",
        new="        call = await continuation(details, request)\n        await call.code()\n"
        "        await self._striker.strike(details)\n        return call\n\n\nclass _Stream",
        breaks="the attempt is over when its host is struck",
        seen_by=_STRUCK,
        kinds=("fault_not_observed",),
    ),
    Bug(
        name="strike-at-another-service",
        file=_SERVICER,
        old="host=ThisHost(request.role,",
        new="host=ThisHost(next(iter(self._services)),",
        breaks="somebody else is struck than the schedule says",
        seen_by=_STRUCK,
        kinds=("fault_delivered_otherwise",),
    ),
    Bug(
        name="strike-logged-twice",
        file=_SERVICER,
        old='            self._log.append(fault, "host", run_id=request.run_id, attempt=request.attempt)\n',
        new='            self._log.append(fault, "host", run_id=request.run_id, attempt=request.attempt)\n'
        '            self._log.append(fault, "host", run_id=request.run_id, attempt=request.attempt)\n',
        breaks="one fault counts for two",
        seen_by=_STRUCK,
        kinds=("fault_delivered_twice",),
    ),
    Bug(
        name="strike-not-logged",
        file=_SERVICER,
        old='            self._log.append(fault, "host", run_id=request.run_id, attempt=request.attempt)\n',
        new="            pass\n",
        breaks="a fault strikes that nobody can tell of",
        seen_by=_STRUCK,
        kinds=("fault_not_delivered",),
    ),
    Bug(
        name="strike-never-healed",
        file="matrices/topologies/struck_host.py",
        old="                service.send(signal.SIGCONT)\n",
        new="                pass\n",
        breaks="the host says that it is whole, and is not",
        seen_by=_STRUCK,
        kinds=("cell_broken", "error_unplanned"),
    ),
    Bug(
        name="strike-healed-at-once",
        file=_SERVICER,
        old="async with asyncio.timeout(fault.kind.outage_s):",
        new="async with asyncio.timeout(0.0):",
        breaks="a fault is over before anybody meets it",
        seen_by=Tests(nodes=(_HOST + "test_a_paused_service_is_silent_and_goes_on_by_itself",)),
    ),
    Bug(
        name="strike-excuses-for-ever",
        file=_DISTURBANCES,
        old="                end_s=back_s + lasting_s + SETTLE_S + error_s,\n",
        new='                end_s=float("inf"),\n',
        breaks="whatever fails after a fault is put down to it",
        seen_by=Tests(nodes=(_CHECK,)),
    ),
    Bug(
        name="strike-excuses-everybody",
        file=_DISTURBANCES,
        old="return any(hop in window.hits(arm) and window.overlaps(start_s, end_s) for window in met)",
        new="return any(window.overlaps(start_s, end_s) for window in met)",
        breaks="a failure on a hop that nothing struck has a culprit",
        seen_by=Tests(nodes=(_CHECK,)),
    ),
)

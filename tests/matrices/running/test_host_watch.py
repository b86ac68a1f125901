"""In which order outages and restarts are written."""

from __future__ import annotations

from matrices.arms.registry import DEFAULT
from matrices.evidence import events as ev
from matrices.running.bystander import Gap
from matrices.running.host_watch import HostLog
from matrices.topologies.supervisor import Return


def gap(role: str, end_s: float) -> Gap:
    return Gap(role=role, start_s=end_s - 1.0, end_s=end_s, probes_lost=2)


def back(role: str, died_s: float) -> Return:
    return Return(role=role, death=f"{role} was killed", died_s=died_s, serving_s=died_s + 0.5, pid=7)


def told(event: ev.Event) -> ev.Outage | ev.Restarted:
    assert isinstance(event, ev.Outage | ev.Restarted)
    return event


def written(*steps: Gap | Return) -> list[tuple[str, str]]:
    events: list[ev.Event] = []
    log = HostLog("b", DEFAULT.apart, events.append)
    for step in steps:
        log.outage(step) if isinstance(step, Gap) else log.restart(step)
    log.close()
    return [(one.type, one.role) for one in map(told, events)]


def test_a_restart_waits_for_its_outage() -> None:
    seen = written(back("tools", 10.0), gap("runtime", 10.4), gap("tools", 10.6), gap("tools", 20.0))
    assert seen == [("outage", "runtime"), ("outage", "tools"), ("restarted", "tools"), ("outage", "tools")]


def test_a_restart_that_is_told_late_follows_at_once() -> None:
    assert written(gap("tools", 10.6), back("tools", 10.0)) == [("outage", "tools"), ("restarted", "tools")]


def test_an_earlier_outage_is_not_the_restarts() -> None:
    assert written(gap("tools", 9.0), back("tools", 10.0), gap("tools", 10.6)) == [
        ("outage", "tools"),
        ("outage", "tools"),
        ("restarted", "tools"),
    ]


def test_a_restart_that_nobody_saw_out_is_written_all_the_same() -> None:
    assert written(back("tools", 10.0)) == [("restarted", "tools")]


def test_the_arm_is_the_roles() -> None:
    events: list[ev.Event] = []
    log = HostLog("b", DEFAULT.apart, events.append)
    for role in ("runtime", "tools", "model", "controller"):
        log.outage(gap(role, 1.0))
    assert [one.arm for one in map(told, events)] == ["internal", "external", "external", "external"]

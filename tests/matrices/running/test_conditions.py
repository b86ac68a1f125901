"""What counts as the experiment's own processor time, on which machine, and how clocks lie."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from matrices.checks.conditions import of_conditions
from matrices.evidence import events as ev
from matrices.evidence.history import CellState
from matrices.running.conditions import ConditionsProbe
from matrices.topologies import machine
from matrices.topologies.role_client import Reading
from treni.v1 import evidence_pb2

BURN = "import time\nwhile time.process_time() < 0.5: pass\nprint('done', flush=True)\ninput()"


def test_what_a_process_used_stays_its_own_when_it_dies() -> None:
    before_s = machine.own_cpu_s()
    with subprocess.Popen(
        [sys.executable, "-c", BURN], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        child.kill()
    assert machine.own_cpu_s() - before_s >= 0.4


def reading(
    boot: str, *, cpu_s: float = 0.0, name: str = "far", offset_s: float = 0.0, **counters: Any
) -> Reading:
    told = evidence_pb2.Machine(name=name, boot=boot, **counters)
    return Reading(
        status=evidence_pb2.StatusResponse(machine=told, cpu_s=cpu_s), offset_s=offset_s, error_s=0.001
    )


def test_each_machine_is_judged_by_itself_and_the_worst_one_stands_for_all() -> None:
    probe = ConditionsProbe()
    before = {
        "tools": reading("b", cpu_s=1.0, name="one"),
        "controller": reading("b", name="one"),
        "runtime": reading("c", name="two"),
    }
    first = probe.conditions(before)
    assert (first["steal_fraction"], first["other_cpu_fraction"]) == (0.0, 0.0)
    after = {
        # Of 10 s: 4 idle, 1 stolen, 2 and 0.5 by our roles, so that 2.5 are somebody else's.
        "tools": reading("b", name="one", cpu_s=3.0, idle_s=4.0, steal_s=1.0, load1=0.1),
        # the machine's counters are one role's to tell
        "controller": reading("b", name="one", cpu_s=0.5),
        "runtime": reading("c", name="two", cpu_s=1.0, idle_s=8.0, steal_s=0.0, load1=0.2),
    }
    for one in after.values():
        one.status.machine.cpu_s = 10.0
    conditions = probe.conditions(after)
    assert conditions["by_host_steal_fraction"]["one"] == 0.1
    assert conditions["by_host_other_cpu_fraction"]["one"] == pytest.approx(0.25)
    assert conditions["by_host_other_cpu_fraction"]["two"] == pytest.approx(0.1)
    assert conditions["steal_fraction"] == max(conditions["by_host_steal_fraction"].values())
    assert conditions["other_cpu_fraction"] == max(conditions["by_host_other_cpu_fraction"].values())
    assert conditions["load1"] == max(conditions["by_host_load1"].values())


def test_machines_of_one_name_are_kept_apart() -> None:
    conditions = ConditionsProbe().conditions({"tools": reading("b1"), "runtime": reading("b2")})
    assert {"far (b1)", "far (b2)"} <= set(conditions["by_host_load1"])


def test_on_one_machine_nothing_is_told_twice_and_every_role_tells_its_clock() -> None:
    here = machine.machine()
    told = Reading(status=evidence_pb2.StatusResponse(machine=here, cpu_s=1.0), offset_s=-0.25, error_s=0.001)
    conditions = ConditionsProbe().conditions({"tools": told})
    assert [name for name in conditions if name.startswith("by_host")] == []
    assert conditions["clock_offset_s"] == {"tools": -0.25}
    assert conditions["clock_error_s"] == {"tools": 0.001}


@pytest.mark.parametrize(
    ("name", "value", "possible"),
    [
        ("clock_offset_s", {"tools": -3600.0}, True),
        ("clock_offset_s", {"tools": float("inf")}, False),
        ("clock_offset_s", {"tools": float("-inf")}, False),
        ("clock_error_s", {"tools": -0.1}, False),
        ("by_host_steal_fraction", {"one": 0.5, "two": 1.2}, False),
        ("by_host_steal_fraction", {"one": 0.5, "two": 0.0}, True),
        ("load1", -1.0, False),
    ],
)
def test_conditions_that_no_machine_can_have_are_found(name: str, value: Any, possible: bool) -> None:
    mark = ev.Block(cell="p00", block=0, phase="end", mono_s=1.0, conditions={name: value})
    found = list(of_conditions(CellState(cell="p00", blocks={0: [mark]}), {}))
    assert [one.kind for one in found] == ([] if possible else ["conditions_impossible"])

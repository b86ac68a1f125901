"""`gate` on real campaigns: two of the same code pass, and one whose external arm is a fifth slower is a regression.

How many blocks tell depends on the machine's day, so that the test goes on with four times as many until the gate knows
of either; by how many it knew is printed. `TRENI_GATES=20` does it 20 times.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest

from tests.matrices import harness as h
from tests.planted.bug import Bug, Tests
from tests.planted.tree import Tree

GATES = int(os.environ.get("TRENI_GATES", "1"))
RUNS = (12, 48, 192)
SLOWER = Bug(
    name="external-a-fifth-slower",
    file="controller/server.py",
    old="            failure = await self._run(request, deadline, recorder, outbox)\n",
    new=(
        "            import asyncio, time\n"
        "            begun_s = time.monotonic()\n"
        "            failure = await self._run(request, deadline, recorder, outbox)\n"
        '            if self._arm == "external":\n'
        "                await asyncio.sleep(0.2 * (time.monotonic() - begun_s))\n"
    ),
    breaks="the external arm takes a fifth longer for every request",
    seen_by=Tests(nodes=()),
)


def campaign(tree: Tree, out: Path, runs: int) -> Path:
    """The folder of a campaign of p00, with patience for a busy machine, that the copy of the tree ran."""
    profile = h.patient(tree.scratch, "p00")
    paths = os.pathsep.join([str(tree.folder), str(tree.folder / "proto")])
    compiled = str(tree.scratch / "compiled" / str(tree.generation))
    ended = subprocess.run(
        [sys.executable, "-m", "matrices", "matrix", profile, "--runs", str(runs), "--out", str(out)],
        capture_output=True,
        text=True,
        timeout=h.WAIT_S,
        check=False,
        cwd=tree.folder,
        env=os.environ | {"PYTHONPATH": paths, "PYTHONPYCACHEPREFIX": compiled},
    )
    assert ended.returncode in (0, 3), ended.stderr
    return h.folder_in(out)


def gate(first: Path, second: Path) -> tuple[int, dict[str, object]]:
    """The gate's status and what it said of the ratio."""
    ended = subprocess.run(
        [sys.executable, "-m", "matrices", "gate", str(first), str(second), "--format", "json"],
        capture_output=True,
        text=True,
        timeout=h.WAIT_S,
        check=False,
    )
    assert ended.returncode in (0, 3, 4), ended.stderr
    ratio = next(check for check in json.loads(ended.stdout)["checks"] if check["what"] == "ratio")
    return ended.returncode, ratio


@pytest.mark.soak
@pytest.mark.parametrize("number", range(GATES))
def test_the_same_code_passes_and_a_fifth_slower_is_a_regression(number: int, tmp_path: Path) -> None:
    tree = Tree.copy(tmp_path)
    wanted = {"again": 0, "slower": 4}
    for runs in RUNS:
        first = campaign(tree, tmp_path / f"first-{runs}", runs)
        for name in list(wanted):
            with tree.planted(SLOWER) if name == "slower" else nullcontext():
                second = campaign(tree, tmp_path / f"{name}-{runs}", runs)
            status, ratio = gate(first, second)
            print(f"{number}, {runs} runs, {name}: {ratio['why']}")
            assert status in (3, wanted[name]), ratio
            if status == wanted[name]:
                del wanted[name]
        if not wanted:
            return
    pytest.fail(f"after {RUNS[-1]} runs the gate did not know of {', '.join(wanted)}")

"""How other processes' clocks are found to lie: shifted ones, unequal ways, and what never depends on them."""

from __future__ import annotations

import ast
import json
import os
import shutil
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaos.faults import Toxic
from chaos.toxiproxy import ToxiproxyClient, ToxiproxyServer
from matrices.evidence import events as ev
from matrices.evidence.history import read_history
from matrices.topologies.clocks import EXCHANGES, Exchange, estimate
from matrices.topologies.role_client import RoleClient
from tests.matrices import harness as h
from tests.matrices.topologies.test_hosts import by_hand
from tests.places import ROOT
from treni.v1 import evidence_pb2

AHEAD_S = 250.0
STEADY_S = 5000.0

READS_WALL_CLOCK = {
    "runtime_svc/weights/digest.py": "whether a file is old enough to be kept by its time of change",
    "runtime_svc/tokens/jinja.py": "what a template writes into a prompt",
    "runtime_svc/http_front/answers.py": "when an answer was made, as OpenAI's clients are told",
    "runtime_svc/http_front/models.py": "when a model was loaded, as OpenAI's clients are told",
    "runtime_svc/bench/gpu.py": "the name of a report",
    "runtime_svc/bench/session.py": "when a bench was run",
    "matrices/topologies/machine.py": "what a machine tells of its clock",
    "matrices/topologies/evidence_service.py": "what a process tells of its clock",
    "matrices/topologies/role_client.py": "how another machine's clock lies",
    "matrices/topologies/clocks.py": "how another process's clock lies",
    "matrices/running/runner.py": "when a request was sent, for a reader",
    "matrices/browser/following.py": "whether a history still grows",
    "matrices/cli/asked.py": "the name of a campaign's folder",
    "proto/treni/otel.py": "what the times of spans are counted from",
    "matrices/evidence/campaign.py": "when a campaign was made",
}


def exchanged(*, sent_s: float, there_s: float, work_s: float, back_s: float, ahead_s: float) -> Exchange:
    """An exchange with a clock that is so far ahead, over ways that take so long."""
    received_s = sent_s + there_s
    told = evidence_pb2.ClockResponse(
        received_mono_s=received_s + ahead_s,
        sent_mono_s=received_s + work_s + ahead_s,
        received_wall_s=received_s + 2 * ahead_s,
        sent_wall_s=received_s + work_s + 2 * ahead_s,
    )
    return Exchange(sent_s=sent_s, back_s=received_s + work_s + back_s, ours_s=0.0, told=told)


WAYS = st.floats(0, 2, allow_nan=False)


@given(
    ways=st.lists(st.tuples(WAYS, WAYS, WAYS), min_size=1, max_size=8),
    ahead_s=st.floats(-1e6, 1e6, allow_nan=False),
)
def test_the_offset_is_within_its_error_however_unequal_the_ways(
    ways: list[tuple[float, float, float]], ahead_s: float
) -> None:
    made = [
        exchanged(sent_s=10.0 * n, there_s=there, work_s=work, back_s=back, ahead_s=ahead_s)
        for n, (there, work, back) in enumerate(ways)
    ]
    clock = estimate(made)
    rounding_s = 2e-6
    assert abs(clock.steady_offset_s - ahead_s) <= clock.error_s + rounding_s
    assert abs(clock.offset_s - 2 * ahead_s) <= clock.error_s + rounding_s
    assert clock.error_s <= min(there + back for there, _, back in ways) / 2 + rounding_s


# gRPC takes a deadline from the system's wall clock and what is left of it by Python's: only one of them shifted, as no
# machine has it, would use up every deadline. So what tells the time hears of the shift, and nobody else.
SHIFT = f"""
import sys, time
TELLS = ("matrices.topologies.evidence_service", "matrices.topologies.machine")
real = time.time
time.time = lambda: real() + {AHEAD_S} * (sys._getframe(1).f_globals["__name__"] in TELLS)
"""


def shifted(folder: Path) -> list[str]:
    """What a command is prefixed with so that its process tells of clocks that run ahead: the monotonic one does."""
    if os.geteuid() != 0 or shutil.which("unshare") is None or not Path("/proc/self/ns/time").exists():
        pytest.skip("time namespaces need root and the unshare command")
    patch = folder / "shift"
    patch.mkdir()
    (patch / "sitecustomize.py").write_text(SHIFT, encoding="utf-8")
    ahead = str(int(STEADY_S))
    return ["env", f"PYTHONPATH={patch}", "unshare", "--time", "--monotonic", ahead, "--boottime", ahead]


@pytest.mark.chaos
@pytest.mark.slow
async def test_clocks_that_run_ahead_are_found_and_a_slow_way_back_only_widens_the_error(
    tmp_path: Path,
) -> None:
    (tmp_path / "state").mkdir()
    one_way_ms = 60
    prefix = {"tools": shifted(tmp_path)}
    with by_hand(tmp_path / "state", {"tools": "127.0.0.4"}, prefix) as services:
        async with AsyncExitStack() as stack:
            server = await stack.enter_async_context(await ToxiproxyServer.start())
            proxies = ToxiproxyClient(server.address)
            far = proxies.create_proxy("far", upstream=services.addresses["tools"])
            attributes = {"latency": one_way_ms, "jitter": 0}
            proxies.add_toxic("far", Toxic(type="latency", stream="downstream", attributes=attributes))
            clocks = []
            for address in (services.addresses["tools"], far.listen):
                client = RoleClient("tools", address)
                stack.push_async_callback(client.close)
                clocks.append(await client.clock())
    near, delayed = clocks
    for clock in clocks:
        assert clock.exchanges == EXCHANGES
        assert abs(clock.steady_offset_s - STEADY_S) <= clock.error_s + 1e-6
        assert (
            abs(clock.offset_s - AHEAD_S) <= clock.error_s + 0.001
        )  # the wall clock may be slewed meanwhile
    # All of the delay is on the way back, and half of it is what the answer is wrong by: the error says so.
    assert delayed.error_s >= one_way_ms / 2000
    assert delayed.steady_offset_s < STEADY_S - one_way_ms / 2000 + delayed.error_s - one_way_ms / 2000 + 1e-6
    assert near.error_s < STEADY_S


@pytest.mark.chaos
@pytest.mark.slow
@pytest.mark.soak
def test_a_campaign_with_clocks_that_run_ahead_is_judged_like_any_other(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    loopbacks = {"agent": "127.0.0.2", "controller": "127.0.0.3", "tools": "127.0.0.4"}
    ahead = shifted(tmp_path)
    with by_hand(tmp_path / "state", loopbacks, {"tools": ahead, "agent": ahead}) as services:
        arguments = (h.patient(tmp_path, "p04"), "--runs", "3", "--topology", str(services.file()))
        result = h.matrix(tmp_path / "out", *arguments)
    assert result.status in (0, 3), result.stderr
    # Among what the checker holds is that no part of a latency is under zero, and that nothing is left unexplained.
    assert h.verb("check", result.folder).returncode == 0
    events = read_history(result.folder / "history.jsonl").events
    starts = [event.clocks for event in events if isinstance(event, ev.CellStarted)]
    ends = [event.clocks for event in events if isinstance(event, ev.CellEnded)]
    assert len(starts) == len(ends) == 2
    for clocks in (*starts, *ends):
        assert {"runtime", "controller", "tools"} <= set(clocks)
        for role, clock in clocks.items():
            offset_s = 0.0 if role == "controller" else AHEAD_S
            steady_s = 0.0 if role == "controller" else STEADY_S
            assert abs(clock.offset_s - offset_s) <= clock.error_s + 0.001
            assert abs(clock.steady_offset_s - steady_s) <= clock.error_s + 1e-6
    report = (result.folder / "summary.md").read_text(encoding="utf-8")
    assert "| clock of | machine | ahead ms | round trip ms | gains ppm |" in report
    # One kernel counts all of their seconds: what one clock gains on the other is within its error.
    summary = json.loads((result.folder / "summary.json").read_text(encoding="utf-8"))
    for cell in summary["cells"]:
        for clock in cell["ways"]["clocks"]:
            assert abs(clock["drift_ppm"]) <= clock["drift_error_ppm"] + 1.0


def test_only_what_tells_the_time_reads_the_wall_clock() -> None:
    """A duration taken by it would jump with it; those of a run are each of one process's monotonic clock."""
    reading = set()
    for room in ("runtime_svc", "controller", "tools_svc", "chaos", "matrices", "proto"):
        for path in sorted((ROOT / room).rglob("*.py")):
            if any(_reads_wall_clock(node) for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))):
                reading.add(path.relative_to(ROOT).as_posix())
    assert reading == set(READS_WALL_CLOCK)


def _reads_wall_clock(node: ast.AST) -> bool:
    if not isinstance(node, ast.Attribute) or not isinstance(node.value, ast.Name):
        return False
    return f"{node.value.id}.{node.attr}" in {
        *("time.time", "time.time_ns", "time.localtime", "time.gmtime"),
        *("datetime.now", "datetime.utcnow", "datetime.today", "date.today"),
    }

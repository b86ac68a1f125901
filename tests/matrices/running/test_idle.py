"""When the runner says that nothing is in flight, nothing is: what a live view does then disturbs no request."""

from __future__ import annotations

from pathlib import Path

import pytest

from matrices.evidence import events as ev
from matrices.evidence.campaign import MARGIN, Options, plan_campaign
from matrices.running.runner import Runner
from matrices.spec.profiles import select_profiles
from matrices.spec.suites import load_suite
from tests.matrices import harness as h


class Watching:
    """Progress that counts the requests which began and ended, and looks at both whenever it may work."""

    def __init__(self) -> None:
        self.begun = self.ended = 0
        self.seen: list[tuple[int, int]] = []

    def cell(self, name: str, pairs: int, done: int) -> None:
        """A cell begins."""

    def pair(self, name: str) -> None:
        """A pair is complete."""

    def event(self, event: ev.Event) -> None:
        self.begun += isinstance(event, ev.Invoke)
        self.ended += isinstance(event, ev.Outcome)

    def idle(self) -> None:
        self.seen.append((self.begun, self.ended))


@pytest.mark.soak
@pytest.mark.parametrize(("concurrency", "times"), [(1, 2 * (8 + 2)), (4, 2 * 2)])
async def test_the_runner_is_idle_only_while_no_request_is_in_flight(
    concurrency: int, times: int, tmp_path: Path
) -> None:
    """Two cells of two blocks of four pairs: after each block, and after each pair where they run one by one."""
    suite = h.write_suite(tmp_path / "suite.jsonl", load_suite("core").tasks[:8], per_run=4)
    options = Options(
        suite=str(suite),
        runs=2,
        seed=0,
        concurrency=concurrency,
        topology="local",
        backend="numpy",
        model_dir=None,
        idempotency=True,
        margin=MARGIN,
        restarts=1,
        toxiproxy=None,
    )
    watching = Watching()
    await Runner(plan_campaign(tmp_path / "out", options, select_profiles("p00")), watching).run()
    assert all(begun == ended for begun, ended in watching.seen), watching.seen
    assert len(watching.seen) == times
    assert watching.ended == 2 * 2 * 8

"""The live view on a real terminal: what it shows of a kept campaign, when it draws, and that stdout stays empty."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys

from tests.limits import HANG_S
from tests.places import ROOT

KEPT = ROOT / "examples" / "matrix-h200" / "run"

SCRIPT = """
import sys
from pathlib import Path
from matrices.cli.live import progress_of
from matrices.cli.live import LiveProgress
from matrices.evidence import events as ev
from matrices.evidence.campaign import load_campaign
campaign, manifest, history = load_campaign(Path(sys.argv[1]))
asked = dict(pairs=sum(len(cell.pairs) for cell in campaign.cells), expectations=campaign.expectations,
             margin=manifest.margin, restarts=manifest.restarts)
seconds = [0.0]
kind = type(progress_of(live=True, **asked)).__name__
progress = LiveProgress(now=lambda: seconds[0], **asked) if kind == "LiveProgress" else progress_of(live=True, **asked)
with progress:
    for event in history.events:
        progress.event(event)
        if isinstance(event, ev.CellStarted):
            progress.cell(event.cell, 48, 0)
        if isinstance(event, ev.PairCompleted):
            seconds[0] += 0.04
            progress.pair(event.cell)
            progress.idle()
"""


def on_a_terminal(*, columns: int = 140) -> tuple[str, str]:
    """What the view wrote to the terminal, and what to stdout."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(KEPT)],
        stdout=subprocess.PIPE,
        stderr=theirs,
        env=os.environ | {"TERM": "xterm", "COLUMNS": str(columns), "LINES": "60"},
    ) as process:
        os.close(theirs)
        shown = b""
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:  # Linux says so when the other end is closed
                break
            if not part:
                break
            shown += part
        assert process.stdout is not None
        said = process.stdout.read().decode()
        assert process.wait(HANG_S) == 0
    os.close(ours)
    return shown.decode(), said


def test_the_table_fills_in_and_ends_with_the_report_s_own_figures() -> None:
    shown, said = on_a_terminal()
    assert said == ""
    frames = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown).split("ratio [CI95]")[1:]
    report = json.loads((KEPT / "summary.json").read_text(encoding="utf-8"))
    last = frames[-1]
    for cell in report["cells"]:
        row = next(line for line in last.splitlines() if line.split()[:1] == [cell["cell"]])
        assert f"{cell['pairs']}/{cell['pairs']}" in row
        if cell["cell"] != "aa":  # whose interval the report has at another confidence
            ratio = cell["comparison"]["ratio"]
            assert "{value:.3f} [{low:.3f}, {high:.3f}]".format(**ratio) in row
    # 336 pairs at 40 ms are 13.44 s, by a clock that is told: the first pair, 13 times a second after, and the end,
    # which rich draws once more as it stops.
    assert len(frames) == 1 + 13 + 2
    assert "..." in frames[0], "one pair has no interval"
    assert "next: aa" in frames[0]
    assert "no fault planned" in frames[0]
    assert re.search(r"next: p0\d core-\d+: p0\d:tool:n\d+:\w+ \(external\)", shown)
    assert re.search(r"p04 core-\d+ external: \w+ \w+ \(p04:tool:n\d+:\w+\)", last)


def test_where_stderr_is_no_terminal_progress_is_plain() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(KEPT)], capture_output=True, text=True, timeout=HANG_S, check=True
    )
    assert (ended.stdout, ended.stderr) == ("", "")

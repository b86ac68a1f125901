import os
import pty
import subprocess
import sys

from tests.limits import HANG_S

SCRIPT = """
from matrices.cli.progress import CampaignProgress
from treni import logs
logs.set_up(level="info", form="text")
with CampaignProgress(pairs=8) as progress:
    progress.cell("aa", 4, 4)
    progress.cell("p00", 4, 1)
    progress.pair("p00")
"""


def test_elsewhere_each_cell_is_a_line_of_the_log() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=HANG_S, check=True
    )
    assert ended.stdout == ""
    lines = [line.split(" ", 1)[1] for line in ended.stderr.splitlines()]
    assert lines == [
        "info cell begins cell=aa pairs=4 done=4 logger=matrices.cli.progress",
        "info cell begins cell=p00 pairs=4 done=1 logger=matrices.cli.progress",
    ]


def test_on_a_terminal_one_bar_counts_the_whole_campaign() -> None:
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT], stderr=theirs, env=os.environ | {"TERM": "xterm", "COLUMNS": "100"}
    ) as process:
        os.close(theirs)
        shown = b""
        while True:
            try:
                part = os.read(ours, 4096)
            except OSError:  # Linux says so when the other end is closed
                break
            if not part:
                break
            shown += part
        assert process.wait(HANG_S) == 0
    os.close(ours)
    text = shown.decode()
    assert "6/8" in text  # four of the first cell, one done before, and one
    assert "p00" in text
    assert "to go" in text
    assert "cell begins" in text

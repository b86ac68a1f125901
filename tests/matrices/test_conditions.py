"""What counts as the experiment's own processor time."""

from __future__ import annotations

import subprocess
import sys

from matrices.running.conditions import own_cpu_s

BURN = "import time\nwhile time.process_time() < 0.5: pass\nprint('done', flush=True)\ninput()"


def test_what_a_process_used_stays_its_own_when_it_dies():
    before_s = own_cpu_s([])
    with subprocess.Popen(
        [sys.executable, "-c", BURN], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        alive_s = own_cpu_s([child.pid])
        child.kill()
    dead_s = own_cpu_s([child.pid])
    assert alive_s - before_s >= 0.4
    assert dead_s >= alive_s - 0.1

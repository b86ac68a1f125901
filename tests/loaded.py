"""Runs the tests on a machine that is kept busy: `python -m tests.loaded [PYTEST ARGUMENTS]`.

Twice as many processes as there are cores to use do nothing but use them, so that whatever runs has a third of one.
"""

from __future__ import annotations

import os
import subprocess
import sys

# Ends by itself when who started it is gone, however that ended.
HOG = "import os, sys\nwhile os.getppid() == int(sys.argv[1]):\n    for _ in range(10**6): pass"


def main() -> int:
    """pytest's exit status."""
    command = [sys.executable, "-c", HOG, str(os.getpid())]
    # Sessions of their own: Linux shares the processor among sessions first, and the tests are to have one's share.
    hogs = [
        subprocess.Popen(command, start_new_session=True) for _ in range(2 * len(os.sched_getaffinity(0)))
    ]
    try:
        return subprocess.run([sys.executable, "-m", "pytest", *sys.argv[1:]], check=False).returncode
    finally:
        for hog in hogs:
            hog.kill()
            hog.wait()


if __name__ == "__main__":
    raise SystemExit(main())

"""What hosts made of namespaces could leave behind, and how tests look for it."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import psutil

from tests.limits import HANG_S

KINDS = ("net", "pid", "mnt", "uts", "ipc")
POLL_S = 0.02


def namespaces_of(pid: int) -> set[str]:
    """The namespaces that a process is in; none of one that has ended."""
    found = set()
    for kind in KINDS:
        try:
            found.add(os.readlink(f"/proc/{pid}/ns/{kind}"))
        except OSError:
            continue
    return found


def made_by(pid: int) -> set[str]:
    """The namespaces that the descendants of a process are in, and we are not."""
    children = psutil.Process(pid).children(recursive=True)
    return set[str]().union(*(namespaces_of(child.pid) for child in children)) - namespaces_of(os.getpid())


def in_use() -> set[str]:
    """The namespaces that any process is in, or that a mount keeps."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        found |= namespaces_of(int(process.name))
        try:
            found |= set(re.findall(r"[a-z]+:\[\d+\]", (process / "mountinfo").read_text(encoding="utf-8")))
        except OSError:
            continue
    return found


def mounts() -> str:
    """The mounts of this machine."""
    return Path("/proc/self/mountinfo").read_text(encoding="utf-8")


def wait_until(condition: Callable[[], bool]) -> None:
    """Until the condition holds; fails when it takes as long as a hang."""
    deadline_s = time.monotonic() + HANG_S
    while not condition():
        assert time.monotonic() < deadline_s, "it never happened"
        time.sleep(POLL_S)


def wait_gone(theirs: Iterable[str]) -> None:
    """Until no process and no mount keeps any of the namespaces."""
    wait_until(lambda: not set(theirs) & in_use())

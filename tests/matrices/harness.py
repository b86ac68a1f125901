"""Runs the real command as a user would, in a process of its own, on the bundled model."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from matrices.spec.profiles import select_profiles
from matrices.spec.suites import Task, load_suite
from tests.limits import HANG_S

WAIT_S = 4 * HANG_S
"""For a whole campaign."""

POLL_S = 0.01

PUBLISHED_TIMEOUT = 'tool_timeout = "250ms"'
TOOL_TIMEOUT = "2s"
"""In place of the published one wherever these tests run a profile: an honest call can take longer than 250 ms on a
machine that is busy enough, and what is counted depends on no timeout."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """How a command ended, and the campaign's folder."""

    status: int
    stdout: str
    stderr: str
    folder: Path

    def summary(self, profile: str, arm: str) -> dict[str, str]:
        """The row of summary.csv; `profile` by its short name."""
        rows = csv.DictReader((self.folder / "summary.csv").open(encoding="utf-8"))
        return next(row for row in rows if row["profile"].split("_")[0] == profile and row["arm"] == arm)

    def comparison(self, profile: str) -> dict[str, str]:
        """The row of comparison.csv; `profile` by its short name."""
        rows = csv.DictReader((self.folder / "comparison.csv").open(encoding="utf-8"))
        return next(row for row in rows if row["profile"].split("_")[0] == profile)


def start(*arguments: str) -> subprocess.Popen[str]:
    """`treni-route matrix ARGUMENTS` as a running process."""
    return subprocess.Popen(
        [sys.executable, "-m", "matrices", "matrix", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A process started in the background by a script ignores Ctrl-C, and so would all that it starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def after(statement: str, *arguments: str) -> list[str]:
    """The command of `python ARGUMENTS` in a process that does what the statement says first.

    Not by a `preexec_fn`, which forks: of a process with gRPC's threads a fork may abort (grpc/grpc#43055).
    """
    script = (
        f"import os, resource, sys\n{statement}\nos.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    )
    return [sys.executable, "-c", script, *arguments]


def finish(process: subprocess.Popen[str], out: Path) -> Result:
    """Waits for the process; `out` holds the one campaign's folder."""
    stdout, stderr = process.communicate(timeout=WAIT_S)
    return Result(status=process.returncode, stdout=stdout, stderr=stderr, folder=folder_in(out))


def matrix(out: Path, *arguments: str) -> Result:
    """`treni-route matrix ARGUMENTS --out OUT`, run to its end."""
    return finish(start(*arguments, "--out", str(out)), out)


def resume(folder: Path) -> Result:
    """`treni-route matrix --resume FOLDER`, run to its end."""
    return finish(start("--resume", str(folder)), folder.parent)


def folder_in(out: Path) -> Path:
    """The one campaign's folder in `out`."""
    (folder,) = out.iterdir()
    return folder


def patient(folder: Path, selection: str) -> str:
    """The selected bundled profiles, with `TOOL_TIMEOUT` where they have the published one, as files in `folder`."""
    with resources.as_file(resources.files("matrices") / "profiles") as bundled:
        files = {path.stem: path for path in bundled.glob("*.toml")}
        names = [
            f"{_patient_copy(files[stem], folder / files[stem].name)}{':' if twin else ''}{twin}"
            for profile in select_profiles(selection)
            for stem, twin in [_file_of(profile.name, files)]
        ]
    return ",".join(names)


def _file_of(name: str, files: Collection[str]) -> tuple[str, str]:
    """The stem of the file that has the profile, and the letter of the twin that it is there, "" for none."""
    if name in files:
        return name, ""
    short, _, rest = name.partition("_")
    return f"{short[:-1]}_{rest}", short[-1]


def _patient_copy(source: Path, target: Path) -> Path:
    text = source.read_text(encoding="utf-8")
    target.write_text(text.replace(PUBLISHED_TIMEOUT, f'tool_timeout = "{TOOL_TIMEOUT}"'), encoding="utf-8")
    return target


def write_suite(path: Path, tasks: Sequence[Task], per_run: int) -> Path:
    """A suite file of the given tasks, `per_run` to a run."""
    lines = [
        task.model_copy(update={"run": index // per_run, "id": f"{task.id}-{index}"}).model_dump_json()
        for index, task in enumerate(tasks)
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def tool_tasks(tool: str) -> list[Task]:
    """The tasks of the bundled `tool_only` suite that need exactly that tool."""
    return [task for task in load_suite("tool_only").tasks if [call.name for call in task.calls] == [tool]]


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Until the condition holds. Fails if the process ends first, or after `WAIT_S`."""
    deadline_s = time.monotonic() + WAIT_S
    while not condition():
        assert process.poll() is None, f"ended with {process.returncode}: {process.communicate()[1]}"
        assert time.monotonic() < deadline_s, "the condition never held"
        time.sleep(POLL_S)


def events(out: Path) -> list[dict[str, Any]]:
    """The whole lines of the history so far; none before there is one."""
    paths = list(out.glob("*/history.jsonl"))
    if not paths:
        return []
    *lines, _torn = paths[0].read_bytes().split(b"\n")
    return [json.loads(line) for line in lines]


def pids_of(out: Path, cell: str) -> dict[str, int]:
    """Process ids by role of the cell's latest start; empty before it."""
    starts = [event for event in events(out) if event["type"] == "cell" and event["cell"] == cell]
    if not starts:
        return {}
    pids = starts[-1]["pids"]
    assert isinstance(pids, dict)
    return dict(pids)


def kill(pid: int) -> None:
    """`kill -9`."""
    os.kill(pid, signal.SIGKILL)


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Until the condition holds or the process has ended by itself."""
    deadline_s = time.monotonic() + WAIT_S
    while not condition() and process.poll() is None:
        assert time.monotonic() < deadline_s, "the condition never held"
        time.sleep(POLL_S)


def verb(name: str, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """`treni-route NAME FOLDER OPTIONS`, run to its end."""
    command = [sys.executable, "-m", "matrices", name, str(folder), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=WAIT_S, check=False)


def compared(first: Path, second: Path) -> subprocess.CompletedProcess[str]:
    """`treni-route compare FIRST SECOND`, run to its end."""
    command = [sys.executable, "-m", "matrices", "compare", str(first), str(second)]
    return subprocess.run(command, capture_output=True, text=True, timeout=WAIT_S, check=False)

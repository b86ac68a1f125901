"""A copy of the tree in which one line at a time is changed, and what tests and `check` say about it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.limits import HANG_S
from tests.places import ROOT
from tests.planted.bug import Bug, Campaign, Command, Tests
from tests.planted.campaigns import arguments_of

LEFT_OUT = (".git", ".venv", "results", "examples", "build", "dist", "__pycache__", ".*_cache", ".hypothesis")


@dataclass(kw_only=True)
class Tree:
    """A copy in `folder`. `scratch` is for what commands write, compiled modules too."""

    folder: Path
    scratch: Path
    generation: int = 0

    @classmethod
    def copy(cls, scratch: Path) -> Tree:
        """A copy of this tree without what is made from it."""
        folder = scratch / "tree"
        shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(*LEFT_OUT))
        return cls(folder=folder, scratch=scratch)

    @contextmanager
    def planted(self, bug: Bug) -> Iterator[None]:
        """The copy with the bug in it. Fails where the text to be replaced does not stand exactly once."""
        path = self.folder / bug.file
        sound = path.read_text(encoding="utf-8")
        if sound.count(bug.old) != 1:
            raise SystemExit(
                f"{bug.name}: expected once in {bug.file}, got {sound.count(bug.old)} times: {bug.old!r}"
            )
        path.write_text(sound.replace(bug.old, bug.new), encoding="utf-8")
        # Python takes a compiled module for current by its source's time in seconds and its size.
        self.generation += 1
        try:
            yield
        finally:
            path.write_text(sound, encoding="utf-8")
            self.generation += 1

    def complaints(self, command: Command) -> str:
        """What the command prints that is not content with the tree; "" if it is content."""
        match command:
            case Tests(nodes=nodes):
                return self._run(["pytest", "-q", "-x", "-p", "no:cacheprovider", *nodes])
            case Campaign():
                return self._campaign(command)

    def _campaign(self, campaign: Campaign) -> str:
        with tempfile.TemporaryDirectory(dir=self.scratch) as name:
            folder = Path(name)
            ran = self._run(
                ["matrices", "matrix", *arguments_of(campaign, folder), "--out", str(folder / "out")]
            )
            folders = list((folder / "out").glob("*")) if (folder / "out").exists() else []
            if not folders:
                return ran
            return self._run(["matrices", "check", str(folders[0])])

    def _run(self, module: Sequence[str]) -> str:
        """`python -m MODULE` on the copy; what it printed, unless its exit status is 0."""
        paths = os.pathsep.join([str(self.folder), str(self.folder / "proto")])
        compiled = str(self.scratch / "compiled" / str(self.generation))
        try:
            done = subprocess.run(
                [sys.executable, "-m", *module],
                capture_output=True,
                text=True,
                timeout=HANG_S,
                check=False,
                cwd=self.folder,
                env=os.environ | {"PYTHONPATH": paths, "PYTHONPYCACHEPREFIX": compiled},
            )
        except subprocess.TimeoutExpired:
            return f"{' '.join(module)} does not end"
        return "" if done.returncode == 0 else f"{done.stdout}{done.stderr}"


def named(bug: Bug, complaints: str) -> str:
    """Which of the tests or findings that are to name the bug does so in what was printed; "" for none."""
    if isinstance(bug.seen_by, Tests):
        failed = re.findall(r"^FAILED (\S+?)(?:\[.*?)?(?: - |$)", complaints, flags=re.MULTILINE)
        return next((node for node in bug.seen_by.nodes if node in failed), "")
    found = re.findall(r"^(\w+) \[", complaints, flags=re.MULTILINE)
    return next((f"{kind}, {found.count(kind)} times" for kind in bug.kinds if kind in found), "")

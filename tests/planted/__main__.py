"""`python -m tests.planted`: plants each bug in a copy of the tree and demands that somebody notices, by name.

The same command is run on the copy without the bug first, and must not say the same: who always complains sees nothing.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.planted.bug import Bug, Command
from tests.planted.bugs import BUGS
from tests.planted.tree import Tree, named

QUOTED_CHARS = 4000


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when every bug was noticed, 1 otherwise."""
    options = _parser().parse_args(arguments)
    if options.list:
        for bug in BUGS:
            print(f"{bug.name:42}{bug.file:32}{bug.breaks}")
        return 0
    bugs = [bug for bug in BUGS if not options.only or bug.name in options.only]
    sound: dict[Command, str] = {}
    with tempfile.TemporaryDirectory(prefix="planted-") as scratch:
        tree = Tree.copy(Path(scratch))
        survivors = [bug for bug in bugs if not _is_noticed(tree, bug, sound)]
    print(f"{len(bugs) - len(survivors)} of {len(bugs)} bugs noticed")
    for bug in survivors:
        print(f"survives: {bug.name} ({bug.file}): {bug.breaks}")
    return 1 if survivors else 0


def _is_noticed(tree: Tree, bug: Bug, sound: dict[Command, str]) -> bool:
    """Whether the bug is named by whom it should be, and only with it; prints its row of the table.

    `sound` has what each command says of the tree as it is, and is added to.
    """
    started_s = time.monotonic()
    if bug.seen_by not in sound:
        sound[bug.seen_by] = tree.complaints(bug.seen_by)
    with tree.planted(bug):
        complaints = tree.complaints(bug.seen_by)
    name, anyway = named(bug, complaints), named(bug, sound[bug.seen_by])
    row = f"not only with it: {anyway}" if anyway else name or "NOT NOTICED"
    print(f"{bug.name:42}{row:60}{time.monotonic() - started_s:6.1f} s", flush=True)
    if not name:
        print(complaints[-QUOTED_CHARS:] or "nobody complains", file=sys.stderr)
    return bool(name) and not anyway


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.planted", description=__doc__)
    parser.add_argument("--list", action="store_true", help="say what there is, plant nothing")
    parser.add_argument("--only", action="append", metavar="NAME", choices=[bug.name for bug in BUGS])
    return parser


if __name__ == "__main__":
    raise SystemExit(main())

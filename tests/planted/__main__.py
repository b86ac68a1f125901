"""`python -m tests.planted`: plants each bug in a copy of the tree and demands that somebody notices, by name.

First every command is run on the copy as it is, and has to be content: one that always complains sees nothing.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.planted.bug import Bug, Sight
from tests.planted.bugs import BUGS
from tests.planted.tree import Tree

QUOTED_CHARS = 4000


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when every bug was noticed, 1 otherwise."""
    options = _parser().parse_args(arguments)
    if options.list:
        for bug in BUGS:
            print(f"{bug.name:42}{bug.file:32}{bug.breaks}")
        return 0
    bugs = [bug for bug in BUGS if not options.only or bug.name in options.only]
    with tempfile.TemporaryDirectory(prefix="planted-") as scratch:
        tree = Tree.copy(Path(scratch))
        unsound = [] if options.trust else [sight for sight in _sights(bugs) if not _is_content(tree, sight)]
        survivors = [bug for bug in bugs if bug.seen_by in unsound or not _is_noticed(tree, bug)]
    print(f"{len(bugs) - len(survivors)} of {len(bugs)} bugs noticed")
    for bug in survivors:
        print(f"survives: {bug.name} ({bug.file}): {bug.breaks}")
    return 1 if survivors else 0


def _sights(bugs: Sequence[Bug]) -> list[Sight]:
    return list(dict.fromkeys(bug.seen_by for bug in bugs))


def _is_content(tree: Tree, sight: Sight) -> bool:
    """Whether nobody complains of the tree as it is."""
    complaints = tree.complaints(sight)
    if complaints:
        print(f"without a bug, {sight} complains:\n{complaints[-QUOTED_CHARS:]}", file=sys.stderr)
    return not complaints


def _is_noticed(tree: Tree, bug: Bug) -> bool:
    """Whether the bug is named by whom it should be; prints its row of the table."""
    started_s = time.monotonic()
    with tree.planted(bug):
        complaints = tree.complaints(bug.seen_by)
    named = tree.names(bug.seen_by, complaints)
    print(f"{bug.name:42}{named or 'NOT NOTICED':60}{time.monotonic() - started_s:6.1f} s", flush=True)
    if not named:
        print(complaints[-QUOTED_CHARS:] or "nobody complains", file=sys.stderr)
    return bool(named)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.planted", description=__doc__)
    parser.add_argument("--list", action="store_true", help="say what there is, plant nothing")
    parser.add_argument("--only", action="append", metavar="NAME", choices=[bug.name for bug in BUGS])
    parser.add_argument("--trust", action="store_true", help="do not run the commands without a bug first")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())

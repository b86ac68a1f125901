"""The list of planted bugs fits the tree, and its quickest are noticed; `make planted` plants all."""

from __future__ import annotations

import pytest

from tests.places import ROOT
from tests.planted.bug import Bug, Tests
from tests.planted.bugs import BUGS
from tests.planted.tree import Tree, named

QUICKEST = ("key-shared-by-calls", "attempt-without-timeout", "deadline-put-off", "late-tool-call-runs")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    return Tree.copy(tmp_path_factory.mktemp("planted"))


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_a_bug_s_line_and_the_tests_that_see_it_are_there(bug: Bug) -> None:
    assert (ROOT / bug.file).read_text(encoding="utf-8").count(bug.old) == 1
    assert not bug.file.startswith("tests/")
    assert isinstance(bug.seen_by, Tests) == (bug.kinds == ())
    for node in bug.seen_by.nodes if isinstance(bug.seen_by, Tests) else ():
        path, _, name = node.partition("::")
        assert f"def {name}(" in (ROOT / path).read_text(encoding="utf-8")


def test_the_names_of_bugs_differ() -> None:
    assert len({bug.name for bug in BUGS}) == len(BUGS) >= 24


@pytest.mark.parametrize("bug", [bug for bug in BUGS if bug.name in QUICKEST], ids=lambda bug: bug.name)
def test_the_quickest_are_noticed(tree: Tree, bug: Bug) -> None:
    with tree.planted(bug):
        assert named(bug, tree.complaints(bug.seen_by))


@pytest.mark.chaos
@pytest.mark.slow
@pytest.mark.soak
def test_a_campaign_notices_a_key_of_each_attempt_and_nothing_without_it(tree: Tree) -> None:
    (bug,) = (bug for bug in BUGS if bug.name == "key-of-each-attempt")
    assert named(bug, tree.complaints(bug.seen_by)) == ""
    with tree.planted(bug):
        # Of six calls three lost their first answer, and were made again.
        assert named(bug, tree.complaints(bug.seen_by)) == "effect_duplicate, 3 times"

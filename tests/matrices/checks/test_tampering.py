"""What an adversary changes in a campaign's files, with every digest made right again, and whether `check` sees it.

One real campaign, killed once on the way and resumed, is changed in one way at a time. docs/checker.md says what no
checker could know: `UNKNOWABLE` has its examples.
"""

from __future__ import annotations

import copy
import random
import shutil
from pathlib import Path

import pytest

from matrices.evidence.history import read_history
from tests.matrices import harness as h
from tests.matrices.checks.tampering import answers, attempts, effects, identity, manifest, structure, times
from tests.matrices.checks.tampering.folder import TAMPERINGS, Change, Folder, findings
from tests.places import ROOT

pytestmark = [pytest.mark.chaos, pytest.mark.slow]

TOPICS = (answers, attempts, effects, identity, manifest, structure, times)


def _another_margin(c: Folder) -> None:
    c.manifest["margin"] = 0.2


def _a_profile_that_was_never_asked_for(c: Folder) -> None:
    c.drop(*[event for event in c.events if event.get("cell") == "p04t"])
    c.manifest["cells"] = c.manifest["cells"][:-1]


def _a_calmer_machine(c: Folder) -> None:
    for mark in c.all("block"):
        mark["conditions"] = {"load1": 0.1, "steal_fraction": 0.0, "other_cpu_fraction": 0.0}


def _times_of_an_unfaulted_arm_three_per_cent_shorter(c: Folder) -> None:
    for outcome in c.outcomes(cell="aa", arm="internal"):
        saved_s = outcome["latency_s"] * 0.03
        outcome["latency_s"] -= saved_s
        outcome["ttft_s"] *= 0.97
        outcome["record"] = times.scale(outcome["record"], 0.97)
        c.later(outcome, -saved_s)


UNKNOWABLE: dict[str, Change] = {
    "another margin": _another_margin,
    "a profile that was never asked for": _a_profile_that_was_never_asked_for,
    "a calmer machine": _a_calmer_machine,
    "times of an unfaulted arm 3 % shorter": _times_of_an_unfaulted_arm_three_per_cent_shorter,
}
"""Changes after which the files are those of another campaign that could have been: only the digest tells."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A campaign that was killed within a pair of p03, and resumed; nothing is held against it."""
    scratch = tmp_path_factory.mktemp("campaign")
    out = scratch / "out"
    process = h.start(h.patient(scratch, "p03,p04t"), "--suite", "chains", "--runs", "2", "--out", str(out))

    def within_a_pair() -> bool:
        told = h.events(out)
        return bool(told) and (told[-1]["type"], told[-1].get("cell")) == ("invoke", "p03")

    h.wait_for(lambda: within_a_pair() and len(h.events(out)) > 0, process)
    process.kill()
    process.communicate()
    made = h.folder_in(out)
    assert h.resume(made).status in (0, 3)
    assert any(event.type == "abandon" for event in read_history(made / "history.jsonl").events)
    return made


@pytest.fixture(scope="module")
def honest(folder: Path) -> Folder:
    return Folder.read(folder)


def _found(change: Change, honest: Folder, folder: Path, to: Path) -> set[str]:
    changed = copy.deepcopy(honest)
    for mark in changed.all("block", phase="end"):
        # However busy the machine is that this runs on: what it left is known, and widens limits.
        mark["conditions"] |= {"other_cpu_fraction": 0.0, "steal_fraction": 0.0}
    honest = copy.deepcopy(changed)
    change(changed)
    assert changed != honest
    shutil.copytree(folder, to, ignore=shutil.ignore_patterns("cells"))
    changed.write(to)
    return findings(to)


def test_the_honest_campaign_has_no_findings(honest: Folder, folder: Path, tmp_path: Path) -> None:
    assert findings(folder) == set()
    shutil.copytree(folder, tmp_path / "same")
    honest.write(tmp_path / "same")
    assert findings(tmp_path / "same") == set()


@pytest.mark.parametrize("name", TAMPERINGS)
def test_a_tampering_is_found_for_what_it_is(name: str, honest: Folder, folder: Path, tmp_path: Path) -> None:
    change, kinds = TAMPERINGS[name]
    found = _found(change, honest, folder, tmp_path / "changed")
    assert found & kinds, f"expected one of {sorted(kinds)}, got {sorted(found) or 'nothing'}"


@pytest.mark.parametrize("name", UNKNOWABLE)
def test_what_only_the_digest_tells(name: str, honest: Folder, folder: Path, tmp_path: Path) -> None:
    assert _found(UNKNOWABLE[name], honest, folder, tmp_path / "changed") == set()
    changed = read_history(tmp_path / "changed" / "history.jsonl").digest
    assert changed != read_history(folder / "history.jsonl").digest


def test_at_least_97_of_100_tamperings_are_found() -> None:
    assert len(TAMPERINGS) >= 150
    assert len(UNKNOWABLE) <= 0.03 * (len(TAMPERINGS) + len(UNKNOWABLE))
    documented = (ROOT / "docs" / "checker.md").read_text(encoding="utf-8")
    assert [name for name in UNKNOWABLE if name not in documented] == []


BYTES = 2000


def test_every_single_byte_that_changes_is_found(honest: Folder, folder: Path, tmp_path: Path) -> None:
    """Without the digests made right: any byte of any of the three files."""
    names = ("manifest.json", "suite.jsonl", "history.jsonl")
    whole = {name: (folder / name).read_bytes() for name in names}
    digest = read_history(folder / "history.jsonl").digest
    to = tmp_path / "changed"
    shutil.copytree(folder, to, ignore=shutil.ignore_patterns("cells"))
    rng = random.Random(0)
    unseen = []
    for _ in range(BYTES):
        name = rng.choices(names, [len(whole[one]) for one in names])[0]
        data = bytearray(whole[name])
        at = rng.randrange(len(data))
        data[at] ^= rng.randrange(1, 256)
        (to / name).write_bytes(bytes(data))
        if _reads_as_before(to, digest):
            unseen.append((name, at))
        (to / name).write_bytes(whole[name])
    assert unseen == []


def _reads_as_before(folder: Path, digest: str) -> bool:
    from matrices.evidence.campaign import load_campaign
    from treni.errors import TreniError

    try:
        _, _, history = load_campaign(folder)
    except TreniError:
        return False
    return history.digest == digest

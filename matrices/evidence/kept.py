"""Whether the files that a campaign kept are those that it was run with, and are judged by the rules of then."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from matrices.evidence import chain
from matrices.evidence.history import History
from matrices.evidence.manifest import Manifest, ManifestCell
from matrices.planning import plan
from treni.errors import Code, TreniError, invalid_argument

MANIFEST = "manifest.json"
SUITE = "suite.jsonl"
HISTORY = "history.jsonl"

CONTAMINATION = {"steal_fraction": 0.10, "other_cpu_fraction": 0.25}
"""Block conditions above which a block is contaminated: fractions of the machine's processor time."""


def missing(folder: Path, what: str) -> TreniError:
    """The error for a folder that is no campaign's, or of one that did not get far."""
    return invalid_argument(
        "campaign_missing",
        expected=f"a campaign's folder with {what}",
        got=str(folder),
        todo="name the folder that `treni-route matrix` printed; one that died before its first request "
        "holds nothing to continue",
    )


def same_files(folder: Path, history: History) -> None:
    """The history begins with the digests of the files beside it."""
    if history.opened is None:
        raise missing(folder, "a first line in history.jsonl")
    for name, expected in ((MANIFEST, history.opened.manifest_sha256), (SUITE, history.opened.suite_sha256)):
        got = chain.digest((folder / name).read_bytes())
        if got != expected:
            raise TreniError(
                Code.DATA_LOSS,
                "campaign_changed",
                expected=f"{folder / name} to have the digest that {HISTORY} begins with, {expected[:12]}...",
                got=f"{got[:12]}...",
                todo="restore the file: it is not the one that the campaign was run with",
                definite=True,
            )


def same_rules(manifest: Manifest) -> None:
    """A history is judged by limits that nobody chose for it."""
    for what, written, mine in (
        ("contamination", manifest.contamination, CONTAMINATION),
        ("side_effect_tools", manifest.side_effect_tools, plan.SIDE_EFFECT_TOOLS),
    ):
        if written != mine:
            raise TreniError(
                Code.FAILED_PRECONDITION,
                "rules_changed",
                expected=f"{what} to be {mine}, as in this version",
                got=str(written),
                todo="use the version of treni-route that the manifest names",
            )


def same_cells(manifest: Manifest, planned: tuple[ManifestCell, ...]) -> None:
    """A schedule that this version reads otherwise than the one that ran would judge the history wrongly."""
    names = [cell.name for cell in planned]
    if names != [cell.name for cell in manifest.cells]:
        raise inconsistent(f"the cells {', '.join(names)}", ", ".join(cell.name for cell in manifest.cells))
    for written, mine in zip(manifest.cells, planned, strict=True):
        if written.schedule_hash != mine.schedule_hash:
            raise TreniError(
                Code.FAILED_PRECONDITION,
                "schedule_changed",
                expected=f"the schedule of {mine.name} to hash to {written.schedule_hash}",
                got=str(mine.schedule_hash),
                todo="use the version of treni-route that the manifest names",
            )
        for field in dataclasses.fields(ManifestCell):
            want, got = getattr(mine, field.name), getattr(written, field.name)
            if want != got:
                raise inconsistent(f"{field.name} of {mine.name} to be {want}", str(got))


def inconsistent(expected: str, got: str) -> TreniError:
    """The error for a manifest that does not agree with itself."""
    return TreniError(
        Code.DATA_LOSS,
        "manifest_inconsistent",
        expected=expected,
        got=got,
        todo="restore the manifest; it was edited",
        definite=True,
    )

"""The files of the paper package, by path: the same bytes from the same campaigns, whenever they are made."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matrices.report.csv_files import comparison_csv, summary_csv
from matrices.report.files import exit_status
from matrices.report.package import tables
from matrices.report.package.claims import SAFE, Claim, claims_of
from matrices.report.package.latex import PaperTable, escaped, latex
from matrices.report.package.tables import PaperCampaign

SCHEMA = 1
MANIFEST = "manifest.json"
SUMS = "SHA256SUMS"


@dataclass(frozen=True, kw_only=True, slots=True)
class Drawing:
    """A figure of a campaign for a paper: its name without a suffix, its caption, and its files by suffix."""

    name: str
    caption: str
    files: Mapping[str, bytes]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Caption:
    path: str
    text: str


def build(campaigns: Sequence[PaperCampaign], drawings: Mapping[str, Sequence[Drawing]]) -> dict[str, bytes]:
    """Every file of the package, by its path there; `drawings` are the figures of each campaign by its name."""
    claims = tuple(claim for one in campaigns for claim in claims_of(one.name, one.figures))
    files: dict[str, bytes] = {}
    captions: list[_Caption] = []
    for table in (tables.overview(campaigns), tables.claims_table(claims)):
        _add_table(files, captions, "", table)
    for campaign in campaigns:
        folder = f"{campaign.name}/"
        for made in tables.OF_CAMPAIGN:
            _add_table(files, captions, folder, made(campaign))
        files[f"{folder}data/summary.csv"] = summary_csv(campaign.figures).encode()
        files[f"{folder}data/comparison.csv"] = comparison_csv(campaign.figures).encode()
        for drawing in drawings.get(campaign.name, ()):
            path = f"{folder}figures/{drawing.name}"
            for suffix, data in drawing.files.items():
                files[f"{path}.{suffix}"] = data
            captions.append(_Caption(path=path, text=f"{drawing.caption} {campaign.setting}"))
    files["claims.md"] = _claims_text(claims).encode()
    files["captions.md"] = "".join(f"## {one.path}\n\n{one.text}\n\n" for one in captions).encode()
    files["captions.tex"] = "".join(
        f"% {one.path}\n\\newcommand{{\\{command}}}{{{escaped(one.text)}}}\n"
        for one, command in zip(captions, _commands([one.path for one in captions]), strict=True)
    ).encode()
    files[MANIFEST] = _manifest(campaigns, claims, files)
    files[SUMS] = "".join(f"{_sha256(data)}  {path}\n" for path, data in sorted(files.items())).encode()
    return files


def _add_table(files: dict[str, bytes], captions: list[_Caption], folder: str, table: PaperTable) -> None:
    path = f"{folder}tables/{table.name}"
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(table.headings)
    writer.writerows(table.rows)
    files[f"{path}.csv"] = buffer.getvalue().encode()
    files[f"{path}.tex"] = latex(table, f"{folder}{table.name}").encode()
    captions.append(_Caption(path=path, text=table.caption))


def _claims_text(claims: Sequence[Claim]) -> str:
    lines = ["# Claims\n"]
    for mark, title in ((SAFE, "Claim-safe"), ("", "Exploratory: not to be claimed")):
        chosen = [one for one in claims if (one.mark == SAFE) is (mark == SAFE)]
        lines.append(f"## {title}\n")
        lines += [
            f"* {one.campaign}, {one.profile} (n = {one.pairs} pairs in {one.blocks} blocks): {one.says} "
            f"Decided by {one.decided_by}: {one.because}.\n"
            for one in chosen
        ] or ["None.\n"]
    return "\n".join(lines)


def _manifest(
    campaigns: Sequence[PaperCampaign], claims: Sequence[Claim], files: Mapping[str, bytes]
) -> bytes:
    data = {
        "schema": SCHEMA,
        "campaigns": [
            {
                "name": one.name,
                "created_utc": one.figures.manifest.created_utc,
                "commit": one.figures.manifest.commit,
                "versions": dict(sorted(one.figures.manifest.versions.items())),
                "model": one.figures.manifest.model.name,
                "checkpoint_sha256": one.figures.manifest.model.checkpoint_sha256,
                "history_digest": one.digest,
                "status": exit_status(one.figures).name.lower(),
                "findings": list(one.findings),
                "claim_safe": [
                    claim.cell for claim in claims if claim.campaign == one.name and claim.mark == SAFE
                ],
            }
            for one in campaigns
        ],
        "sha256": {path: _sha256(data) for path, data in sorted(files.items())},
    }
    return (json.dumps(data, ensure_ascii=False, indent=2) + "\n").encode()


def _commands(paths: Sequence[str]) -> list[str]:
    """A command for each of the paths, no two alike, which LaTeX would refuse."""
    commands: list[str] = []
    for path in paths:
        command = _command(path)
        while command in commands:
            command += "Again"
        commands.append(command)
    return commands


def _command(path: str) -> str:
    """A name that LaTeX takes for a command: letters alone, figures spelt."""
    digits = ("Zero", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine")
    words = "".join(one if one.isascii() and one.isalnum() else " " for one in path).title().split()
    return "caption" + "".join(digits[int(c)] if c.isdigit() else c for word in words for c in word)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()

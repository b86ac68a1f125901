"""`treni-route package`: tables, claims, captions and figures of campaigns, as files for a paper."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import click

from matrices.evidence.campaign import load_campaign
from matrices.report.figures import figures
from matrices.report.files import differing
from matrices.report.package.build import build
from matrices.report.package.drawings import drawings_of
from matrices.report.package.tables import PaperCampaign
from treni import entry
from treni.errors import Code, TreniError, invalid_argument
from treni.storage import writing

_SHOWN = 3

_EPILOG = """\b
Examples:
  treni-route package results/20260101T000000Z --out paper/treni
  treni-route package results/on-the-cpu results/on-the-gpu --out paper/treni
  (cd paper/treni && sha256sum -c SHA256SUMS)

\b
Exit status: 0 the package is written; 1 the checker finds something in a campaign, or an error; 2 usage."""


@entry.command(epilog=_EPILOG)
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="DIR...")
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    help="The package's folder, which must not be there yet.",
)
@click.option(
    "--with-findings",
    is_flag=True,
    help="Take campaigns in which the checker finds something all the same, marked so in every caption.",
)
@click.option(
    "--no-figures", is_flag=True, help="Leave the figures out, which need what draws: the extra `report`."
)
def package(folders: tuple[Path, ...], out: Path, with_findings: bool, no_figures: bool) -> None:
    """Write the paper package of the campaigns in DIR... : tables (CSV, LaTeX), captions, claims, figures, hashes.

    Each claim is marked claim-safe or exploratory, with the gate that decided. The same campaigns give the same bytes.
    """
    if out.exists():
        raise invalid_argument(
            "package_exists",
            expected="a folder that is not there yet for the package",
            got=str(out),
            todo="name another as --out, or remove that one",
        )
    campaigns = tuple(
        _campaign(folder, name, with_findings=with_findings)
        for folder, name in zip(folders, _names(folders), strict=True)
    )
    drawings = {} if no_figures else {one.name: drawings_of(one.figures) for one in campaigns}
    files = build(campaigns, drawings)
    _write(out, files)
    entry.note(f"{len(files)} files of {len(campaigns)} campaigns")
    click.echo(str(out))


def _write(out: Path, files: Mapping[str, bytes]) -> None:
    """Puts the whole package at `out`, or nothing."""
    with writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        for path, data in files.items():
            with writing(out / path):
                (made / path).parent.mkdir(parents=True, exist_ok=True)
                (made / path).write_bytes(data)
        with writing(out):
            made.chmod(0o755)
            made.rename(out)
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise


def _names(folders: tuple[Path, ...]) -> list[str]:
    """A name for each campaign: its folder's, with as many of the folders above it as tell it from the others."""
    paths = [folder.resolve() for folder in folders]
    if len(set(paths)) < len(paths):
        raise invalid_argument(
            "package_twice",
            expected="each campaign once",
            got=", ".join(map(str, folders)),
            todo="leave the second one out",
        )
    for depth in range(1, max(len(path.parts) for path in paths) + 1):
        names = ["-".join(part for part in path.parts[-depth:] if part != path.anchor) for path in paths]
        if max(Counter(names).values()) == 1:
            return names
    raise AssertionError("different paths differ in some part")


def _campaign(folder: Path, name: str, *, with_findings: bool) -> PaperCampaign:
    campaign, manifest, history = load_campaign(folder)
    result = figures(manifest, history.events, campaign.expectations)
    findings = (
        *map(str, result.findings),
        *(f"report_differs: {one} is not what the history gives" for one in differing(folder, result)),
    )
    if findings and not with_findings:
        more = f" and {len(findings) - _SHOWN} more" if len(findings) > _SHOWN else ""
        raise TreniError(
            Code.FAILED_PRECONDITION,
            "package_findings",
            expected=f"a campaign in {folder} that the checker finds nothing in",
            got=f"{'; '.join(findings[:_SHOWN])}{more}",
            todo="see `treni-route check`; --with-findings packages it all the same, marked so",
        )
    return PaperCampaign(name=name, figures=result, digest=history.digest, findings=findings)

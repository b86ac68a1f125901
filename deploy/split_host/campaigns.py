"""Campaigns run from a host made of namespaces by the commands that a user types, and what they came to."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from deploy.namespaces.host import Host
from matrices.evidence.campaign import load_campaign
from matrices.report.figures import CellFigures, Figures, figures
from matrices.report.files import ExitStatus
from treni.errors import Code, TreniError

LIMIT_S = 3600.0
"""The limit for a campaign that hangs: one of the published size takes one or two minutes."""

_DONE = (ExitStatus.PASS, ExitStatus.INCONCLUSIVE)


@dataclass(frozen=True, kw_only=True, slots=True)
class Done:
    """A campaign that was run to its end: its folder as the host names it, and its figures."""

    name: str
    host: Host
    folder: str
    figures: Figures

    @property
    def path(self) -> Path:
        """The campaign's folder, as long as the host lives."""
        return self.host.path(self.folder)

    @property
    def rows(self) -> tuple[CellFigures, ...]:
        """The cells that have a profile: all but the noise floor."""
        return self.figures.cells[1:]


def run_matrix(host: Host, name: str, *arguments: str, environment: dict[str, str]) -> Done:
    """`treni-route matrix ARGUMENTS` on the host. Raises FAILED_PRECONDITION where the checker finds anything."""
    out = f"/tmp/campaigns/{name}"
    _command(host, "matrix", *arguments, "--out", out, ended=_DONE, environment=environment)
    (folder,) = host.path(out).iterdir()
    campaign, manifest, history = load_campaign(folder)
    return Done(
        name=name,
        host=host,
        folder=f"{out}/{folder.name}",
        figures=figures(manifest, history.events, campaign.expectations),
    )


def judge(done: Done) -> None:
    """`treni-route check` on the campaign. Raises FAILED_PRECONDITION for a finding."""
    _command(done.host, "check", done.folder, ended=(0,))


def refuse_difference(first: Done, second: Done) -> None:
    """`treni-route compare` on two campaigns of one host. Raises FAILED_PRECONDITION where a run did otherwise."""
    _command(first.host, "compare", first.folder, second.folder, ended=(0,))


def _command(
    host: Host, verb: str, *arguments: str, ended: tuple[int, ...], environment: dict[str, str] | None = None
) -> None:
    """A command of ours on the host, whose words go where ours go, all to stderr."""
    process = host.start(
        *(sys.executable, "-m", "matrices", verb, *arguments), environment=environment, stdout=sys.stderr
    )
    try:
        status = process.wait(LIMIT_S)
    except subprocess.TimeoutExpired:
        process.stop()
        status = -1
    if status not in ended:
        raise TreniError(
            Code.FAILED_PRECONDITION,
            "split_host_failed",
            expected=f"`treni-route {verb} {' '.join(arguments)}` on the host {host.name} to end with "
            + " or ".join(str(int(one)) for one in ended),
            got=f"no end within {LIMIT_S:.0f} s" if status == -1 else f"status {status}",
            todo="see what it said above",
        )

"""`python -m deploy.split_host`: the split-host matrix on hosts made of namespaces, beside the same on one host."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import click

from chaos.toxiproxy_build import ensure_server
from deploy.namespaces.making import Hosts, made, refuse_here
from deploy.split_host.debian import HOSTS_NEED, SSH_NEEDS, install_missing
from deploy.split_host.ray_cluster import has_ray
from deploy.split_host.run import Part, SplitHost, keep
from deploy.split_host.services import CLIENT, CPU, GPU, TOOLS
from deploy.split_host.table import (
    CROSSING_HEADINGS,
    HEADINGS,
    RECOVERY_HEADINGS,
    crossing_lines,
    lines_of,
    recovery_lines,
    rows_of,
)
from matrices.cli import output
from matrices.topologies.processes import die_with_parent
from treni import entry
from treni.errors import TreniError

_EPILOG = """\b
Examples:
  python -m deploy.split_host                                  the six published profiles, minutes
  python -m deploy.split_host p00,p04 --runs 3 --out results   a short one, whose campaigns are kept

\b
Exit status: 0 everything was as on one host; 1 something was not, or an error; 2 usage."""

_TAIL_CHARS = 2000


@entry.command(epilog=_EPILOG)
@click.argument("profiles", default="p00..p05")
@click.option(
    "--runs",
    type=entry.WholeRange(1, 1000),
    default=12,
    show_default=True,
    help="Runs of the suite (blocks).",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Keep the campaigns in a new folder there; default: nowhere.",
)
@click.option(
    "--ray/--no-ray",
    default=None,
    help="A Ray cluster of the hosts too; default: if the extra ray is installed.",
)
@click.option("--faults", is_flag=True, help="Faults between the hosts too: the profiles n01..n06.")
@click.option("--parent-pid", type=int, hidden=True, help="End when this process does.")
def main(
    profiles: str, runs: int, out: Path | None, ray: bool | None, faults: bool, parent_pid: int | None
) -> None:
    """Run PROFILES on one host, then split over hosts made of namespaces, and hold the two against each other.

    Needs Linux and root; what else is missing is installed by apt-get. Errors, retries and what every run did have to
    be the same, `check` has to find nothing, and packets of each hop between two hosts have to cross the link. However
    it ends, no namespace, process, mount or file is left but the campaigns in the folder of --out.
    """
    refuse_here()
    if ray is None:
        ray = has_ray()
    install_missing({**HOSTS_NEED, **(SSH_NEEDS if ray else {})})
    proxies = ensure_server()
    if parent_pid is not None:
        die_with_parent(parent_pid)
    with made([GPU, CPU, TOOLS, CLIENT], visible=[proxies.parent, *_folders(profiles)]) as hosts:
        split = SplitHost(hosts, profiles, runs=runs, proxies=proxies)
        try:
            split.one_host()
            split.split()
            split.tools_apart()
            if faults:
                split.struck()
            if ray:
                split.on_ray()
        except TreniError:
            _show_logs(hosts)
            raise
        _show(split.parts)
        if out is not None:
            name = f"split-host-{datetime.now(UTC).strftime('%Y%m%dT%H%M%SZ')}"
            entry.note(f"campaigns: {keep([part.campaign for part in split.parts], out, name)}")


def _folders(profiles: str) -> list[Path]:
    """Where files of profiles are, among the selection."""
    paths = [Path(one.partition(":")[0]) for one in profiles.split(",")]
    return [path.parent for path in paths if path.suffix == ".toml"]


def _show(parts: Sequence[Part]) -> None:
    whole = [part for part in parts if part.whole]
    lines = lines_of(rows_of([part.campaign for part in whole]))
    output.say(output.table(HEADINGS, lines, right=range(1, 7)))
    output.say(f"\nof several values: {', '.join(part.title for part in whole)}; retries: over successes\n")
    for part in parts:
        if part.crossed:
            output.say(f"\nWhat crossed the link, {part.title}:\n")
            output.say(output.table(CROSSING_HEADINGS, crossing_lines(part.crossed), right=range(3, 7)))
        if struck := recovery_lines(part.campaign):
            output.say(f"\nHow the arms came through {part.title}, medians in seconds:\n")
            output.say(output.table(RECOVERY_HEADINGS, struck, right=range(2, 8)))


def _show_logs(hosts: Hosts) -> None:
    """The ends of the services' logs, which are gone with the hosts."""
    for host in hosts.by_name.values():
        for path in sorted(host.path("/tmp").glob("*.log")):
            tail = path.read_text(encoding="utf-8", errors="replace").strip()[-_TAIL_CHARS:]
            entry.note(f"{path.name} on {host.name} ends: {tail or '(empty)'}")


if __name__ == "__main__":
    main(prog_name="python -m deploy.split_host")

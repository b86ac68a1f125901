"""`python -m deploy.split_host`: the split-host matrix on hosts made of namespaces, beside the same on one host."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from chaos.toxiproxy_build import ensure_server
from deploy.namespaces.making import Hosts, made, refuse_here
from deploy.split_host.debian import HOSTS_NEED, install_missing
from deploy.split_host.run import Split, keep, split_host
from deploy.split_host.services import CLIENT, CPU, GPU, TOOLS
from deploy.split_host.table import CROSSING_HEADINGS, HEADINGS, crossing_lines, lines_of, rows_of
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
@click.option("--parent-pid", type=int, hidden=True, help="End when this process does.")
def main(profiles: str, runs: int, out: Path | None, parent_pid: int | None) -> None:
    """Run PROFILES on one host, then split over hosts made of namespaces, and hold the two against each other.

    Needs Linux and root; what else is missing is installed by apt-get. Errors, retries and what every run did have to
    be the same, `check` has to find nothing, and packets of each hop between two hosts have to cross the link. However
    it ends, no namespace, process, mount or file is left but the campaigns in the folder of --out.
    """
    refuse_here()
    install_missing(HOSTS_NEED)
    proxies = ensure_server()
    if parent_pid is not None:
        die_with_parent(parent_pid)
    with made([GPU, CPU, TOOLS, CLIENT], visible=[proxies.parent, *_folders(profiles)]) as hosts:
        try:
            split = split_host(hosts, profiles, runs=runs, proxies=proxies)
        except TreniError:
            _show_logs(hosts)
            raise
        _show(split)
        if out is not None:
            name = f"split-host-{datetime.now(UTC).strftime('%Y%m%dT%H%M%SZ')}"
            entry.note(f"campaigns: {keep(split.campaigns, out, name)}")


def _folders(profiles: str) -> list[Path]:
    """Where files of profiles are, among the selection."""
    paths = [Path(one.partition(":")[0]) for one in profiles.split(",")]
    return [path.parent for path in paths if path.suffix == ".toml"]


def _show(split: Split) -> None:
    local, hosts, _ = split.campaigns
    right = range(1, 7)
    output.say(output.table(HEADINGS, lines_of(rows_of([local, hosts])), right=right))
    output.say(
        "\nof two values the first is of one host, the second of split hosts; retries: over successes\n\n"
    )
    for title, found in (("split hosts", split.crossed), ("tools apart", split.apart)):
        output.say(f"What crossed the link, {title}:\n")
        output.say(output.table(CROSSING_HEADINGS, crossing_lines(found), right=range(3, 7)))
        output.say("\n")


def _show_logs(hosts: Hosts) -> None:
    """The ends of the services' logs, which are gone with the hosts."""
    for host in hosts.by_name.values():
        for path in sorted(host.path("/tmp").glob("*.log")):
            tail = path.read_text(encoding="utf-8", errors="replace").strip()[-_TAIL_CHARS:]
            entry.note(f"{path.name} on {host.name} ends: {tail or '(empty)'}")


if __name__ == "__main__":
    main(prog_name="python -m deploy.split_host")

"""The `treni-route` command: verbs. Data goes to stdout, everything else to stderr."""

from __future__ import annotations

import click

from treni import entry

VERBS = {
    "ask": "matrices.cli.ask:ask",
    "bench": "matrices.cli.bench:bench",
    "check": "matrices.cli.judge:check",
    "cluster": "matrices.cli.cluster:cluster",
    "compare": "matrices.cli.compare:compare",
    "doctor": "matrices.cli.doctor:doctor",
    "gate": "matrices.cli.gate:gate",
    "init": "matrices.cli.init:init",
    "make-checkpoint": "matrices.cli.make_checkpoint:make_checkpoint",
    "matrix": "matrices.cli.matrix:matrix",
    "models": "matrices.cli.models:models",
    "networks": "matrices.cli.networks:networks",
    "package": "matrices.cli.package:package",
    "profiles": "matrices.cli.profiles:profiles",
    "report": "matrices.cli.judge:report",
    "reports": "matrices.cli.reports:reports",
    "schema": "matrices.cli.schema:schema",
    "serve": "matrices.cli.serve:serve",
    "simulate": "matrices.cli.simulate:simulate",
    "traces": "matrices.cli.traces:traces",
}
"""Where each verb is."""

_EPILOG = """\b
Examples:
  treni-route matrix p00..p05              the six published profiles
  treni-route matrix p00..p05 --dry-run    what their schedules predict, and nothing is run
  treni-route matrix --resume results/20260101T000000Z
  treni-route check results/20260101T000000Z
  treni-route COMMAND -h                   every option, and the exit statuses

\b
Exit status: 0 a result; 1 an error, or something found; 2 usage; 3 inconclusive (matrix, report); 130 interrupted;
141 nobody reads stdout any more.

\b
Completion of commands and options, for a line of ~/.bashrc, ~/.zshrc or ~/.config/fish/config.fish:
  eval "$(_TRENI_ROUTE_COMPLETE=bash_source treni-route)"
  eval "$(_TRENI_ROUTE_COMPLETE=zsh_source treni-route)"
  _TRENI_ROUTE_COMPLETE=fish_source treni-route | source"""


@entry.group(epilog=_EPILOG, lazy=VERBS)
@click.version_option(package_name="treni-route")
def main() -> None:
    """Measure where an LLM agent's routing should live: inside the inference process, or outside it."""

"""The options of `treni-route matrix` by which a running campaign can be scraped; they change nothing of what it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from treni import entry, metrics
from treni.metrics_page import list_nowhere, list_targets, listed, metrics_option, serving_metrics


def metrics_options(command: Any) -> Any:
    """Adds the options to a command."""
    targets = click.option(
        "--metrics-targets",
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="FILE.json",
        help="With --metrics-port: keep a list there, for Prometheus's file_sd_configs, of what can be scraped now.",
    )
    return metrics_option(targets(command))


@contextmanager
def scraped(port: int | None, targets: Path | None) -> Iterator[None]:
    """Serves the harness's metrics while the block runs and lists them with its services' own; nothing for no port.

    Raises a usage error for a list of nothing.
    """
    if port is None:
        if targets is not None:
            raise click.UsageError(
                "expected --metrics-port beside --metrics-targets; got none; add --metrics-port 0"
            )
        yield
        return
    with serving_metrics(port) as told:
        if targets is not None:
            list_targets(targets)
        unlist = listed("harness", told)
        entry.note(f"metrics: {told['metrics']}")
        try:
            yield
        finally:
            unlist()
            list_nowhere()
            metrics.switch_off()

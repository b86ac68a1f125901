"""Prometheus on a Debian machine, without its system service: `python -m deploy.observe.debian`."""

from __future__ import annotations

from deploy.split_host.debian import install_missing
from treni import entry

NEEDS = {"prometheus": "prometheus", "promtool": "prometheus"}
"""Programs, and the package that has them."""


@entry.command()
def main() -> None:
    """Install Debian's Prometheus by apt-get where it is missing; nothing is started."""
    install_missing(NEEDS)


if __name__ == "__main__":
    main(prog_name="python -m deploy.observe.debian")

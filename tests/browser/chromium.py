"""Brings Debian's chromium where there is none: `python -m tests.browser.chromium`."""

from __future__ import annotations

from deploy.split_host.debian import install_missing
from treni import entry

PROGRAM = "chromium"


@entry.command()
def main() -> None:
    """Install chromium by apt-get, which takes root, if it is not there."""
    install_missing({PROGRAM: PROGRAM})


if __name__ == "__main__":
    main(prog_name="python -m tests.browser.chromium")

"""`treni-route networks`: what network profiles there are."""

from __future__ import annotations

from matrices.cli import output
from matrices.spec.networks import bundled_networks
from treni import entry

_EPILOG = """\b
Examples:
  treni-route networks                              the bundled ones
  treni-route matrix p00 --network eu-us            each hop as slow as that, on this machine
  treni-route matrix p00 --network model=eu-us,tool=lan

docs/networks.md says what a file of one's own has, and what an emulated network is not."""


@entry.command(epilog=_EPILOG)
@output.format_option
def networks(form: str) -> None:
    """List the bundled network profiles: what is declared of the way between two places."""
    bundled = bundled_networks().values()
    if form == "json":
        output.say_json([one.model_dump(mode="json") for one in bundled])
        return
    rows = [
        (one.name, f"{one.rtt * 1e3:g}", f"{one.jitter * 1e3:g}", f"{one.loss * 100:g}", one.title)
        for one in bundled
    ]
    output.say(output.table(("network", "rtt ms", "± ms", "loss %", "between"), rows))

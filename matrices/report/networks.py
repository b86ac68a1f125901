"""What a report says of the network that a campaign was run over, where it was not the one that was there."""

from __future__ import annotations

from matrices.evidence.manifest import Manifest, networks_of
from matrices.spec.networks import named


def emulated(manifest: Manifest) -> str:
    """The network that the hops were made to be like, such as "emulated eu-us"; "" where they were as they are."""
    networks = networks_of(manifest)
    return f"emulated {named((hop, one.name) for hop, one in networks.items())}" if networks else ""

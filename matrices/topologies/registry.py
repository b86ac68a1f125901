"""Every topology by name: ours, and those of installed packages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matrices.arms.parts import Replicas
from matrices.topologies import hosts, local, pilot, ray_topology
from matrices.topologies.topology import Topology, TopologyEntry
from treni.errors import invalid_argument
from treni.plugins import Plugins

TOPOLOGIES: Plugins[TopologyEntry] = Plugins(
    "treni_route.topologies",
    TopologyEntry,
    lambda entry: entry.name,
    (local.ENTRY, hosts.ENTRY, pilot.ENTRY, ray_topology.ENTRY),
)


def chosen(text: str) -> tuple[str, dict[str, Any]]:
    """The name and the settings of what a user asked for: `NAME`, `NAME:ARGUMENT`, or a `.toml` file of hosts.

    Raises INVALID_ARGUMENT for an unknown name, or settings that are wrong.
    """
    if text.endswith(".toml") and ":" not in text:
        return hosts.ENTRY.name, hosts.ENTRY.settings(text)
    name, colon, argument = text.partition(":")
    return name, _entry(name).settings(argument if colon else None)


def topology(name: str, settings: Mapping[str, Any]) -> Topology:
    """The topology of that name with the settings that a manifest keeps. Raises INVALID_ARGUMENT."""
    return _entry(name).build(settings)


def replicas(name: str, settings: Mapping[str, Any], asked: Replicas) -> Replicas:
    """How many controllers and tool services there are. Raises INVALID_ARGUMENT where those asked for can't be."""
    return _entry(name).replicas(settings, asked)


def _entry(name: str) -> TopologyEntry:
    entry = TOPOLOGIES.get(name)
    if entry is None:
        raise invalid_argument(
            "topology_unknown",
            expected=f"one of {', '.join(TOPOLOGIES)}, or a .toml file of hosts",
            got=repr(name),
            todo="see docs/topologies.md",
        )
    return entry

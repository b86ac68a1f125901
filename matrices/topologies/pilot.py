"""The topology of a pilot across hosts, `--topology pilot:FILE.toml`: all roles on one host, behind a tunnel.

Each port is forwarded to the same number here (`ssh -L 7101:127.0.0.1:7101`), so that every address means the same to
the harness and to the roles that call one another on their host.
"""

from __future__ import annotations

import secrets
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pydantic

from matrices.evidence.campaign import Campaign
from matrices.planning.plan import PlannedCell
from matrices.spec.rules import WITH_UNITS
from matrices.topologies.hosts import Hosts, listed_replicas
from matrices.topologies.hosts_file import DoorTable, HostsFile, Kind, Site, kept, validated
from matrices.topologies.topology import TopologyEntry
from treni.errors import TreniError, invalid_argument
from treni.text_files import read_text

HERE, THERE = "here", "there"
"""What the two ends of the tunnel are called where regions are."""

_AGENTS = 2
"""The A/A cell needs two, and a second process of one would listen on a port that no tunnel leads to."""


class _Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)


class PilotService(_Strict):
    """One role on the host, by its ports there and here."""

    role: Kind = pydantic.Field(description="What it was started as.")
    port: int = pydantic.Field(ge=1, le=65535, description="Its `--port`, of its EvidenceService.")
    service_port: int = pydantic.Field(
        ge=1, le=65535, description="Its `--service-port`, of its own service."
    )
    faults: tuple[Site, ...] = pydantic.Field(
        default=("hop", "tool"), description="What may be faulted there, as in a file of hosts."
    )


class PilotFile(_Strict):
    """The content of a file for a pilot: the host behind the tunnel, and the ports that the tunnel forwards."""

    host: str = pydantic.Field(min_length=1, description="What the host is called in the report.")
    toxiproxy: int = pydantic.Field(
        ge=1, le=65535, description="The port of the API of its toxiproxy server."
    )
    network: Mapping[str, Any] | None = pydantic.Field(
        default=None, description="What is declared of the tunnel: `profile`, or `rtt`, `jitter` and `loss`."
    )
    door: DoorTable | None = pydantic.Field(
        default=None,
        description="What the harness shows at the doors of the services, as in a file of hosts.",
    )
    service: tuple[PilotService, ...] = pydantic.Field(
        description="Two agents, a controller and tools; a runtime where a cell needs one of its own."
    )

    @pydantic.model_validator(mode="after")
    def _complete(self) -> PilotFile:
        agents = sum(one.role == "agent" for one in self.service)
        if agents != _AGENTS:
            raise ValueError(f"expected {_AGENTS} agents, as the A/A cell needs them, got {agents}")
        every = [self.toxiproxy, *(port for one in self.service for port in (one.port, one.service_port))]
        for port in every:
            if every.count(port) > 1:
                raise ValueError(f"expected a port of its own for each forward, got {port} twice")
        return self

    def hosts(self, *, context: object) -> HostsFile:
        """The same as a file of hosts: every address is this end of a forward."""
        placed = {"region": THERE} if self.network is not None else {}
        data: dict[str, Any] = {
            "service": [
                {
                    "role": one.role,
                    "host": self.host,
                    "address": f"127.0.0.1:{one.port}",
                    "faults": one.faults,
                    **placed,
                }
                for one in self.service
            ],
            "toxiproxy": {"host": self.host, "address": f"127.0.0.1:{self.toxiproxy}"},
        }
        if self.door is not None:
            data["door"] = [self.door.model_dump()]
        if self.network is not None:
            data |= {"region": HERE, "network": [{"between": (HERE, THERE), **self.network}]}
        return HostsFile.model_validate(data, context=context)


class Pilot(Hosts):
    """Services on one host, by the near ends of a tunnel's forwards."""

    def refuse(self, campaign: Campaign) -> None:
        """Raises INVALID_ARGUMENT for what `Hosts` refuses, and for what would need a port that nobody forwards."""
        super().refuse(campaign)
        for cell in campaign.cells:
            if any(schedule.hop == "agent" and schedule.rules for schedule in cell.schedules):
                raise invalid_argument(
                    "client_lanes_not_here",
                    expected="no faults on the client's own call, whose proxies would listen behind the tunnel",
                    got=f'{cell.name}, with rules on hop = "agent"',
                    todo="use --topology local, or a file of hosts that this machine reaches",
                )
            self._refuse_short(cell)

    def _refuse_short(self, cell: PlannedCell) -> None:
        taken: set[str] = set()
        for role, part in cell.parts.items():
            free = [one.address for one in self._able(part) if one.address not in taken]
            if not free:
                raise invalid_argument(
                    "pilot_needs_another",
                    expected=f"a service in the file for the {role} of {cell.name}",
                    got="none that is not another role's already",
                    todo="start one more on that host, forward its ports, and enter it",
                )
            taken.add(free[0])


def read_pilot(path: Path) -> HostsFile:
    """The file of a pilot at `path`, as a file of hosts. Raises INVALID_ARGUMENT that names the file and the key."""
    try:
        data = tomllib.loads(read_text(path, what="a TOML file of a pilot"))
        return PilotFile.model_validate(data).hosts(context=WITH_UNITS)
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        raise _invalid(path, f"{key}: {first['msg']}" if key else first["msg"]) from None
    except (ValueError, RecursionError) as error:
        raise _invalid(path, str(error)) from None


def _invalid(path: Path, got: str) -> TreniError:
    return invalid_argument(
        "pilot_invalid",
        expected=f"{path} to be a file of a pilot as docs/topologies.md describes it",
        got=got,
        todo="correct it",
    )


def _settings(argument: str | None) -> dict[str, Any]:
    """What a file of hosts keeps too: where the roles are, and a name for this campaign's evidence there."""
    if argument is None:
        raise invalid_argument(
            "topology_argument",
            expected="a .toml file, as in pilot:pilot.toml",
            got="none",
            todo="see docs/topologies.md",
        )
    path = Path(argument)
    return {"hosts": kept(read_pilot(path), path), "campaign": secrets.token_hex(8)}


def _build(settings: Mapping[str, Any]) -> Pilot:
    return Pilot(validated(settings.get("hosts"), "the manifest's hosts"), str(settings.get("campaign", "")))


ENTRY = TopologyEntry(name="pilot", settings=_settings, build=_build, replicas=listed_replicas)

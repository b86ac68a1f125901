"""The file of hosts: where each role is served, what may be faulted there, and what is shown at whose door."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic

from matrices.spec.regions import Way, refuse_undeclared
from matrices.spec.rules import WITH_UNITS
from treni.errors import invalid_argument
from treni.keys import Keys
from treni.passes import NOTHING, Keyring, Pass, host_of
from treni.text_files import read_text

Kind = Literal["agent", "runtime", "controller", "tools"]
Site = Literal["hop", "tool", "host"]

MOST_REPLICAS = 64
"""How many controllers, or tool services, a file may list."""

_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s:\[\]/]+):([0-9]{1,5})")


def _address(value: str) -> str:
    match = _ADDRESS.fullmatch(value)
    if match is None or not 1 <= int(match[2]) <= 65535:
        raise ValueError('expected "host:port", such as "10.0.0.2:7001"')
    return value


Address = Annotated[str, pydantic.AfterValidator(_address)]
FileName = Annotated[str, pydantic.StringConstraints(pattern=r"^[A-Za-z0-9_-]+\.json$")]


class _Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)


class DoorTable(_Strict):
    """What the harness shows at the doors of a host, or of all that have no table of their own."""

    host: str | None = pydantic.Field(
        default=None,
        min_length=1,
        description="The `host` of its services; without it the table is for all others.",
    )
    key_file: str | None = pydantic.Field(
        default=None, min_length=1, description="The file whose first key is shown there."
    )
    ca: str | None = pydantic.Field(
        default=None,
        min_length=1,
        description="PEM: whose certificates its servers have; they are called by TLS.",
    )
    cert: str | None = pydantic.Field(
        default=None, min_length=1, description="PEM: the harness's certificate, where they ask for one."
    )
    key: str | None = pydantic.Field(default=None, min_length=1, description="PEM: its private key.")
    server_name: str | None = pydantic.Field(
        default=None,
        min_length=1,
        description="What its servers' certificates name, where that is not the host of their address.",
    )

    def within(self, folder: Path) -> DoorTable:
        """The same with its files as they lie in the folder."""
        named = {name: getattr(self, name) for name in ("key_file", "ca", "cert", "key")}
        return self.model_copy(
            update={name: str(folder / value) for name, value in named.items() if value is not None}
        )

    def shown(self) -> Pass:
        """What the table says, its files read. Raises INVALID_ARGUMENT for what is wrong with them."""
        ca, cert, key = (None if one is None else Path(one) for one in (self.ca, self.cert, self.key))
        return Pass(
            keys=None if self.key_file is None else Keys(file=Path(self.key_file)),
            ca=ca,
            certificate=cert,
            key=key,
            server_name=self.server_name or "",
        )


class Service(_Strict):
    """One service that runs somewhere, started by `treni-route serve ROLE --testbed`."""

    role: Kind = pydantic.Field(description="What it was started as.")
    host: str = pydantic.Field(min_length=1, description="What its host is called in the report.")
    address: Address = pydantic.Field(
        description="Where its EvidenceService answers, from the harness and the others."
    )
    region: str | None = pydantic.Field(default=None, min_length=1, description="Where its host stands.")
    faults: tuple[Site, ...] = pydantic.Field(
        default=("hop", "tool"),
        description="What may be faulted there: its hop, its tools, and the host's process itself.",
    )


class Proxies(_Strict):
    """The toxiproxy server, by the address of its API."""

    host: str = pydantic.Field(min_length=1, description="What its host is called in the report.")
    address: Address = pydantic.Field(
        description="Where its API answers; the controller's lanes listen on that host."
    )


class Agent(_Strict):
    """Who strikes one host as planned: `treni-route serve host --testbed` on it."""

    name: str = pydantic.Field(
        min_length=1, description="The `host` of the services that are struck with it."
    )
    address: Address = pydantic.Field(
        description="Where its EvidenceService answers, from the harness and the other hosts."
    )


class HostsFile(_Strict):
    """The content of a file of hosts: where each role is served, and where toxiproxy is."""

    service: tuple[Service, ...] = pydantic.Field(
        description="Every service: an agent, a controller and tools at least."
    )
    region: str | None = pydantic.Field(default=None, min_length=1, description="Where the harness runs.")
    network: tuple[Way, ...] = pydantic.Field(
        default=(), description="What lies between two regions: each two that are in the file need one."
    )
    toxiproxy: Proxies | None = pydantic.Field(
        default=None,
        description="Without it a server is started beside the harness, which the controller's host must reach.",
    )
    host: tuple[Agent, ...] = pydantic.Field(
        default=(), description="Every host that may be struck; without any no host is."
    )
    door: tuple[DoorTable, ...] = pydantic.Field(
        default=(), description="What the harness shows at their doors; without any nothing."
    )
    link: FileName | None = pydantic.Field(
        default=None,
        description="A file beside the manifest: what crossed the link, as whoever made the hosts counted it.",
    )

    @pydantic.model_validator(mode="after")
    def _complete(self) -> HostsFile:
        for kind, least, most in (
            ("agent", 1, 2),
            ("runtime", 0, 1),
            ("controller", 1, MOST_REPLICAS),
            ("tools", 1, MOST_REPLICAS),
        ):
            count = sum(one.role == kind for one in self.service)
            if not least <= count <= most:
                raise ValueError(
                    f"expected {least if least == most else f'{least} to {most}'} {kind}, got {count}"
                )
        refuse_undeclared([self.region, *(one.region for one in self.service)], self.network)
        addresses = [one.address for one in self.service] + [one.address for one in self.host]
        if self.toxiproxy is not None:
            addresses.append(self.toxiproxy.address)
        for address in addresses:
            if addresses.count(address) > 1:
                raise ValueError(f"expected an address of its own for each service, got {address} twice")
        names = [one.name for one in self.host]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"expected each host once, got {name} twice")
        self._check_doors()
        return self

    def _check_doors(self) -> None:
        doors = [one.host for one in self.door]
        for host in doors:
            if doors.count(host) > 1:
                raise ValueError(f"expected one door for {host or 'all others'}, got two")
        table = {one.host: one for one in self.door}
        for name in doors:
            if name is not None and name not in self._named().values():
                raise ValueError(f"expected the door of a host in the file, got that of {name}")
        seen: dict[str, DoorTable | None] = {}
        for address, name in self._named().items():
            bare, door = host_of(address), table.get(name, table.get(None))
            if seen.setdefault(bare, door) != door:
                raise ValueError(f"expected one door for what is at {bare}, got two")

    def _named(self) -> dict[str, str]:
        """The name of the host behind each address that is called by gRPC."""
        return {one.address: one.host for one in self.service} | {one.address: one.name for one in self.host}

    def keyring(self) -> Keyring:
        """What the harness shows at each host. Raises INVALID_ARGUMENT for what is wrong with a table's files."""
        passes = {one.host: one.shown() for one in self.door}
        return Keyring(
            by_host={
                host_of(address): passes.get(name, passes.get(None, NOTHING))
                for address, name in self._named().items()
            }
        )

    def of(self, kind: str) -> list[Service]:
        """The services of one kind, in the order of the file."""
        return [one for one in self.service if one.role == kind]


def read_hosts(path: Path) -> HostsFile:
    """The file of hosts at `path`. Raises INVALID_ARGUMENT that names the file and the key."""
    try:
        data = tomllib.loads(read_text(path, what="a TOML file of hosts"))
    except (ValueError, RecursionError) as error:
        raise invalid_argument(
            "hosts_unreadable",
            expected=f"{path} to be a TOML file of hosts",
            got=str(error),
            todo="correct it",
        ) from None
    return validated(data, str(path), context=WITH_UNITS)


def kept(file: HostsFile, path: Path) -> dict[str, Any]:
    """What a manifest keeps of the file that was read from `path`: the files that it names as they lie beside it."""
    door = tuple(one.within(path.parent.absolute()) for one in file.door)
    return file.model_copy(update={"door": door}).model_dump(mode="json", exclude_none=True)


def validated(data: object, where: str, *, context: object = None) -> HostsFile:
    """The file of hosts in parsed TOML or JSON. Raises INVALID_ARGUMENT that names `where` and the key."""
    try:
        return HostsFile.model_validate(data, context=context)
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        raise invalid_argument(
            "hosts_invalid",
            expected=f"{where} to be a file of hosts as docs/topologies.md describes it",
            got=f"{key}: {first['msg']}" if key else first["msg"],
            todo="correct it",
        ) from None

"""What the harness, the process that holds its actors and the actors on the hosts agree on. Imports no Ray."""

from __future__ import annotations

from collections.abc import Mapping

import pydantic

from tools_svc.sources import BUILTIN
from treni import entry
from treni.errors import Code, TreniError, unforeseen

DRIVER_MODULE = "matrices.topologies.ray_driver"

WAIT_VARIABLE = "TRENI_RAY_WAIT_S"
"""Names, for the harness, how many seconds hosts may take to join."""

STATE_VARIABLE = "TRENI_RAY_STATE"
"""Names, on each host, the folder for evidence. It has to outlive the cluster: a resumption asks for what is there."""

PORT_VARIABLE = "TRENI_RAY_PORT"
"""Names, on each host, the first of the ports that roles listen on."""

FIRST_PORT = 7100
"""The first port on a host that names none."""

HEAD_LOST = 4
"""The exit status of a driver whose cluster's head stopped answering."""

GPU_HOST = "gpu_host"
CPU_HOST = "cpu_host"
RESOURCE_OF = {"agent": GPU_HOST, "runtime": GPU_HOST, "controller": CPU_HOST, "tools": CPU_HOST}
"""The custom resource of the hosts where each kind of role is placed; the proxies are where the controller is."""


class _Message(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", strict=True)


class Asked(_Message):
    """What the harness asks of its driver.

    `address` is "" for the cluster of this machine, `roles` holds the kind of each by its name, `tools` are the
    sources of those that have tools, `proxies` says whether to start a toxiproxy server, and `wait_s` how long hosts
    may take to join. `trace` has each host keep traces beside its evidence, `trace_endpoint` has them sent there.
    """

    address: str
    roles: dict[str, str]
    backend: str
    model_dir: str | None
    proxies: bool
    wait_s: float
    log_level: str
    trace: bool = False
    trace_endpoint: str = ""
    tools: tuple[str, ...] = pydantic.Field(default=BUILTIN, strict=False)


class Failure(_Message):
    """A `TreniError` on its way between processes."""

    code: str
    kind: str
    expected: str
    got: str
    todo: str

    @classmethod
    def of(cls, error: Exception, where: str) -> Failure:
        """The error in words; one that nobody foresaw as that of `where`."""
        cause = entry.cause(error)
        known = cause if isinstance(cause, TreniError) else unforeseen(error, where)
        return cls(
            code=known.code.name, kind=known.kind, expected=known.expected, got=known.got, todo=known.todo
        )

    @property
    def error(self) -> TreniError:
        """The error again."""
        return TreniError(
            getattr(Code, self.code), self.kind, expected=self.expected, got=self.got, todo=self.todo
        )


class Begun(_Message):
    """Where an actor's server answers, and its process; or why there is none."""

    address: str = ""
    pid: int = 0
    failure: Failure | None = None


class Ready(_Message):
    """The one line that the driver prints: where everything answers, or why it does not."""

    roles: dict[str, Begun] = {}
    toxiproxy: Begun | None = None
    failure: Failure | None = None


def served(begun: Mapping[str, Begun]) -> dict[str, Begun]:
    """The actors by name, all of which serve. Raises what kept the first one from it."""
    for one in begun.values():
        if one.failure is not None:
            raise one.failure.error
    return dict(begun)

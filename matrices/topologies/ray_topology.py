"""The topology of a Ray cluster, `--topology ray` or `ray:ADDRESS`. A process beside the harness imports Ray for it."""

from __future__ import annotations

import importlib.metadata
import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from chaos.toxiproxy import ToxiproxyServer
from matrices.evidence.campaign import Campaign
from matrices.planning.plan import PlannedCell
from matrices.topologies.processes import Child, start_child
from matrices.topologies.ray_doors import ray_doors
from matrices.topologies.ray_protocol import DRIVER_MODULE, HEAD_LOST, WAIT_VARIABLE, Asked, Ready
from matrices.topologies.supervisor import Ward
from matrices.topologies.topology import TopologyEntry, kind_of, scope_of
from treni import logs
from treni.channels import check_address, showing
from treni.errors import Code, TreniError, invalid_argument
from treni.trace_options import ENDPOINT_VARIABLE, PATH_VARIABLE

WAIT_S = 120.0
MOST_WAIT_S = 500.0

DRIVER = "the holder of the Ray actors"
"""What the process that holds the actors is called among the cell's."""


class RayPlaced:
    """Actors on the hosts of a cluster that end with the segment."""

    foreign = True

    def __init__(self, *, driver: Child, ready: Ready, scope: str, toxiproxy_address: str) -> None:
        self._driver = driver
        self.scope = scope
        self.addresses = {role: one.address for role, one in ready.roles.items()}
        self.toxiproxy_address = toxiproxy_address

    @property
    def own_pids(self) -> dict[str, int]:
        """None: the driver's processor time counts as other, like that of Ray's own processes."""
        return {}

    def deaths(self) -> dict[str, str]:
        """How the driver ended, and the actors with it; an actor's own end only `CellServices.look` can know."""
        death = self._driver.death()
        if death is None:
            return {}
        if self._driver.process.returncode == HEAD_LOST:
            death = "the head of the Ray cluster was lost"
        return {DRIVER: f"{death}: see {self._driver.log_path}"}

    def wards(self, again: Callable[[str], Awaitable[None]]) -> dict[str, Ward]:
        """Nobody: what Ray brings back by itself is another epoch, unplanned."""
        return {}


class RayCluster:
    """Starts the roles as actors of a cluster, anew for each segment, on the hosts that have the resource for them."""

    def __init__(self, *, address: str, campaign: str) -> None:
        self._address = address
        self._campaign = campaign

    def refuse(self, campaign: Campaign) -> None:
        """Raises INVALID_ARGUMENT for a wrong limit or key and for crashes, FAILED_PRECONDITION without Ray."""
        _wait_s()
        _ = ray_doors().keyring
        for cell in campaign.cells:
            if any(kind.kills_host for kind in cell.kinds):
                raise invalid_argument(
                    "crash_not_here",
                    expected="faults that leave the services on their hosts alive",
                    got=f"{cell.name}, which kills processes",
                    todo="use --topology local: there a planned death is undone by the harness",
                )
        try:
            importlib.metadata.version("ray")
        except importlib.metadata.PackageNotFoundError:
            raise TreniError(
                Code.FAILED_PRECONDITION,
                "ray_missing",
                expected="Ray for --topology ray",
                got="no package of that name",
                todo="pip install 'treni-route[ray]', here and on every host",
            ) from None

    @asynccontextmanager
    async def place(
        self, cell: PlannedCell, campaign: Campaign, *, session: str, take: int
    ) -> AsyncIterator[RayPlaced]:
        """Fresh actors; they are gone when the block is left."""
        folder = campaign.folder / "cells" / scope_of(cell, take)
        folder.mkdir(parents=True, exist_ok=True)
        options = campaign.options
        asked = Asked(
            address=self._address,
            roles={role: kind_of(part) for role, part in cell.parts.items()},
            backend=options.backend,
            model_dir=options.model_dir,
            tools=options.tooling.sources,
            proxies=options.toxiproxy is None,
            wait_s=_wait_s(),
            log_level=os.environ.get(logs.LEVEL_VARIABLE) or "info",
            trace=PATH_VARIABLE in os.environ,
            trace_endpoint=os.environ.get(ENDPOINT_VARIABLE, ""),
        )
        async with AsyncExitStack() as stack:
            stack.enter_context(showing(ray_doors().keyring))
            arguments = ["-m", DRIVER_MODULE, asked.model_dump_json(), "--parent-pid", str(os.getpid())]
            driver = await start_child(DRIVER, arguments, log_path=folder / "ray.log")
            stack.push_async_callback(driver.stop)
            ready = Ready.model_validate(driver.ready)
            if ready.failure is not None:
                raise ready.failure.error
            address = options.toxiproxy if ready.toxiproxy is None else ready.toxiproxy.address
            assert address is not None
            await ToxiproxyServer.attach(address)
            yield RayPlaced(
                driver=driver,
                ready=ready,
                scope=f"{self._campaign}/{scope_of(cell, take)}",
                toxiproxy_address=address,
            )


def _wait_s() -> float:
    """How long hosts may take to join, as the environment says it."""
    text = os.environ.get(WAIT_VARIABLE) or f"{WAIT_S:g}"
    try:
        wait_s = float(text)
    except ValueError:
        wait_s = -1.0
    if not 0 <= wait_s <= MOST_WAIT_S:
        raise invalid_argument(
            "environment_invalid",
            expected=f"{WAIT_VARIABLE} to be from 0 to {MOST_WAIT_S:g} seconds",
            got=repr(text),
            todo="correct the variable, or unset it",
        )
    return wait_s


def _settings(argument: str | None) -> dict[str, Any]:
    """The cluster's address, and a name that keeps this campaign's evidence apart on its hosts."""
    if argument is not None:
        check_address("the address of --topology ray:ADDRESS", argument.removeprefix("ray://"))
    return {"address": argument or "", "campaign": secrets.token_hex(8)}


def _build(settings: Mapping[str, Any]) -> RayCluster:
    return RayCluster(address=str(settings.get("address", "")), campaign=str(settings.get("campaign", "")))


ENTRY = TopologyEntry(name="ray", settings=_settings, build=_build)

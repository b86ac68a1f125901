"""`python -m matrices.topologies.ray_driver ASKED`: holds the actors of one segment, in a process beside the harness.

Ray ends a process that lost its cluster, without asking it. The harness must outlive that, and be timed with no
threads of Ray's beside it, so nothing else of the project imports Ray.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
import time
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, NoReturn

import click
import ray
from ray._private import services
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from chaos.toxiproxy import LOOPBACK
from matrices.topologies.processes import die_with_parent
from matrices.topologies.ray_actors import ProxyActor, RoleActor
from matrices.topologies.ray_protocol import (
    CPU_HOST,
    DRIVER_MODULE,
    GPU_HOST,
    HEAD_LOST,
    RESOURCE_OF,
    WAIT_VARIABLE,
    Asked,
    Begun,
    Failure,
    Ready,
    served,
)
from treni import entry, serving
from treni.errors import Code, TreniError

NAMESPACE = "treni-route"

SHARE = 0.001
"""How much of its host's resource an actor takes: it says where, and never how many."""

CONNECT_LIMIT_S = 10.0
JOIN_LIMIT_S = 120.0
"""How long a head at whose port somebody listens may take to let a driver in: Ray itself gives up after minutes."""

LOOK_INTERVAL_S = 2.0
HEAD_LIMIT_S = 30.0
"""How long the head may take to answer; one at whose port nobody listens is given up at once."""

CLOSE_LIMIT_S = 10.0

_PROXIES = "toxiproxy"

_log = logging.getLogger("treni.ray")


@entry.command()
@click.argument("asked")
@click.option("--parent-pid", type=int, required=True, hidden=True)
def main(asked: str, parent_pid: int) -> None:
    """Place the roles that are ASKED for, as JSON, on a Ray cluster, and keep them until SIGTERM.

    Prints one line of JSON: where each role answers, or the failure.
    """
    die_with_parent(parent_pid)
    asyncio.run(_drive(Asked.model_validate_json(asked)))


async def _drive(asked: Asked) -> NoReturn:
    status = await _run(asked)
    sys.stdout.flush()
    # At once: a thread may wait for a head that is gone, and Ray's own ending would too.
    os._exit(status)


async def _run(asked: Asked) -> int:
    try:
        head = await _connected(asked.address)
        hosts = await _hosts(asked)
        actors = _place(asked, hosts)
        begun = served(await _begun(actors))
    except Exception as error:
        print(Ready(failure=Failure.of(error, "the Ray cluster")).model_dump_json(), flush=True)
        return entry.Exit.ERROR
    proxies = begun.pop(_PROXIES, None)
    ready = Ready(roles=begun, toxiproxy=proxies).model_dump()
    suspicion = asyncio.Event()
    watching = [asyncio.ensure_future(_watch(name, actor, suspicion)) for name, actor in actors.items()]
    lost = asyncio.ensure_future(_until_lost(head, suspicion))
    told_to_stop = asyncio.ensure_future(serving.until_told_to_stop(ready))
    await asyncio.wait({lost, told_to_stop}, return_when=asyncio.FIRST_COMPLETED)
    for one in watching:
        one.cancel()
    if lost.done():
        _log.error("the head of the cluster was lost", extra={"address": head, "why": lost.result()})
        return HEAD_LOST
    await _close(actors.values())
    return 0


async def _connected(address: str) -> str:
    """Joins the cluster as a driver; the address of its head. Raises UNAVAILABLE (`ray_unreachable`)."""
    wanted = address or os.environ.get("RAY_ADDRESS") or "auto"
    try:
        head = wanted if wanted != "auto" else str(services.canonicalize_bootstrap_address("auto", None))
        head = head.removeprefix("ray://")
        # Ray itself tries for minutes before it says that there is nobody.
        await _listens(head)
        join = partial(ray.init, namespace=NAMESPACE, log_to_driver=False, logging_level=logging.WARNING)
        async with asyncio.timeout(JOIN_LIMIT_S):
            await asyncio.to_thread(join, wanted if wanted != "auto" else head)
    except (OSError, RuntimeError, ValueError, ConnectionError, ray.exceptions.RayError) as error:
        raise _unreachable(wanted, error) from None
    return head


async def _listens(address: str) -> None:
    """Whether anybody listens at the address. Raises OSError or TimeoutError where nobody does."""
    host, _, port = address.rpartition(":")
    async with asyncio.timeout(CONNECT_LIMIT_S):
        _, writer = await asyncio.open_connection(host.strip("[]"), int(port))
    writer.close()


def _unreachable(wanted: str, error: Exception) -> TreniError:
    where = "on this machine" if wanted == "auto" else f"at {wanted}"
    said = str(error).strip().split("\n")[0] or "it did not answer in time"
    return TreniError(
        Code.UNAVAILABLE,
        "ray_unreachable",
        expected=f"the head of a Ray cluster {where} that lets us in",
        got=f"{type(error).__name__}: {said}",
        todo="see that `ray up` or `ray start --head` ran, that RAY_ADDRESS or ray:ADDRESS is its address, and that "
        "RAY_AUTH_MODE, the token and RAY_USE_TLS are those of the cluster (docs/ray.md)",
    )


async def _hosts(asked: Asked) -> dict[str, Mapping[str, Any]]:
    """The node for each resource that is needed, once all have joined. Raises UNAVAILABLE (`ray_host_missing`)."""
    needed = {RESOURCE_OF[kind] for kind in asked.roles.values()}
    if asked.proxies:
        needed.add(CPU_HOST)
    began_s = time.monotonic()
    said: set[str] = set()
    while True:
        nodes = ray.nodes()
        found = {
            resource: node for resource in sorted(needed) if (node := _with(resource, nodes)) is not None
        }
        for resource in found.keys() - said:
            said.add(resource)
            _log.info(
                "a host joined", extra={"resource": resource, "host": found[resource]["NodeManagerAddress"]}
            )
        missing = sorted(needed - found.keys())
        if not missing:
            return found
        if time.monotonic() - began_s > asked.wait_s:
            raise _missing(missing, nodes, asked.wait_s)
        await asyncio.sleep(min(0.5, asked.wait_s))


def _with(resource: str, nodes: Iterable[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The first living node, by its address, that has the resource."""
    able = [node for node in nodes if node["Alive"] and node["Resources"].get(resource, 0) > 0]
    return min(able, key=lambda node: (node["NodeManagerAddress"], node["NodeID"]), default=None)


def _missing(missing: list[str], nodes: Iterable[Mapping[str, Any]], wait_s: float) -> TreniError:
    joined = [
        f"{node['NodeManagerAddress']} ({', '.join(_own(node)) or 'no resource of ours'})"
        + ("" if node["Alive"] else " which is gone again")
        for node in nodes
    ]
    flags = " and ".join(f"""`ray start --resources '{{"{resource}": 1}}'`""" for resource in missing)
    return TreniError(
        Code.UNAVAILABLE,
        "ray_host_missing",
        expected=f"a host with the resource {' and one with '.join(missing)} to join within {wait_s:g} s",
        got=f"{', '.join(joined) or 'no host at all'}",
        todo=f"see there that {flags} ran and what it said, or wait longer ({WAIT_VARIABLE})",
    )


def _own(node: Mapping[str, Any]) -> list[str]:
    return sorted(name for name in (CPU_HOST, GPU_HOST) if node["Resources"].get(name, 0) > 0)


def _place(asked: Asked, hosts: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The handles of the actors by role: all on the host that has their resource, none elsewhere."""
    numbers = dict.fromkeys(RESOURCE_OF, 0)
    actors: dict[str, Any] = {}
    for role, kind in asked.roles.items():
        node = hosts[RESOURCE_OF[kind]]
        # Of a GPU that it does not ask for an actor sees nothing.
        gpus = SHARE if asked.backend != "numpy" and RESOURCE_OF[kind] == GPU_HOST else 0
        actors[role] = _at(RoleActor, RESOURCE_OF[kind], node, gpus=gpus).remote(
            kind=kind,
            number=numbers[kind],
            host=node["NodeManagerAddress"],
            backend=asked.backend,
            model_dir=asked.model_dir,
            tools=asked.tools,
            log_level=asked.log_level,
            trace=asked.trace,
            trace_endpoint=asked.trace_endpoint,
        )
        numbers[kind] += 1
    if asked.proxies:
        node = hosts[CPU_HOST]
        # Their API has no key: where the harness is beside them, as the controller is, nobody else need reach it.
        host = LOOPBACK if _is_here(node) else node["NodeManagerAddress"]
        actors[_PROXIES] = _at(ProxyActor, CPU_HOST, node).remote(host=host, log_level=asked.log_level)
    return actors


def _is_here(node: Mapping[str, Any]) -> bool:
    """Whether this process runs on the node; one that is connected as a client does not know."""
    return (
        not ray.util.client.ray.is_connected() and ray.get_runtime_context().get_node_id() == node["NodeID"]
    )


def _at(actor: type, resource: str, node: Mapping[str, Any], *, gpus: float = 0) -> Any:
    return ray.remote(actor).options(
        num_cpus=0,
        num_gpus=gpus,
        resources={resource: SHARE},
        # One that dies serves again where it was, as another epoch, which callers see.
        max_restarts=-1,
        scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False),
    )


async def _begun(actors: Mapping[str, Any]) -> dict[str, Begun]:
    """What each actor says of itself."""
    answers = await asyncio.gather(*(actor.begun.remote() for actor in actors.values()))
    return {name: Begun.model_validate_json(one) for name, one in zip(actors, answers, strict=True)}


async def _watch(name: str, actor: Any, suspicion: asyncio.Event) -> None:
    """Logs each end of the actor's process, with Ray's reason; those who call it find out by its epoch."""
    while True:
        try:
            await actor.watch.remote()
        except ray.exceptions.RayError as error:
            suspicion.set()
            _log.warning("an actor ended", extra={"role": name, "why": " ".join(str(error).split())})
        await asyncio.sleep(LOOK_INTERVAL_S)


async def _until_lost(head: str, suspicion: asyncio.Event) -> str:
    """Waits until the head does not answer any more; why it counts as lost."""
    while True:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(suspicion.wait(), LOOK_INTERVAL_S)
        suspicion.clear()
        asking = asyncio.ensure_future(asyncio.to_thread(ray.nodes))
        began_s = time.monotonic()
        while not asking.done():
            try:
                await _listens(head)
            except ConnectionRefusedError as error:
                return str(error)
            except (OSError, TimeoutError):
                pass
            if time.monotonic() - began_s > HEAD_LIMIT_S:
                return f"no answer in {HEAD_LIMIT_S:.0f} s"
            await asyncio.wait({asking}, timeout=LOOK_INTERVAL_S)
        try:
            asking.result()
        except Exception as error:
            return f"{type(error).__name__}: {error}"


async def _close(actors: Iterable[Any]) -> None:
    """Ends the actors for good: in order as far as they answer, and then at once."""
    with contextlib.suppress(TimeoutError, ray.exceptions.RayError):
        async with asyncio.timeout(CLOSE_LIMIT_S):
            await asyncio.gather(*(actor.aclose.remote() for actor in actors), return_exceptions=True)
    for actor in actors:
        ray.kill(actor, no_restart=True)


if __name__ == "__main__":
    main(prog_name=f"python -m {DRIVER_MODULE}")

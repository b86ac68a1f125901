"""A Ray cluster of two hosts made of namespaces, by the commands that Ray's own launcher types there."""

from __future__ import annotations

import json
import secrets
import sys
from pathlib import Path

from deploy.namespaces.host import Host
from matrices.topologies.ray_protocol import CPU_HOST, GPU_HOST

PORT = 6379
_LIMIT_S = 600.0
_OBJECTS_BYTES = 100_000_000


def start_cluster(head: Host, worker: Host) -> tuple[str, dict[str, str]]:
    """The address of the cluster's head, and the environment that lets a process on its hosts in.

    Both hosts take the cluster along when they end. Raises `subprocess.CalledProcessError`.
    """
    address = f"{head.address}:{PORT}"
    environment = {
        "PATH": f"{Path(sys.executable).parent}:/usr/sbin:/usr/bin:/sbin:/bin",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
    }
    for host, resource, where in (
        (head, CPU_HOST, ["--head", f"--port={PORT}", "--include-dashboard=false"]),
        (worker, GPU_HOST, [f"--address={address}"]),
    ):
        host.run(
            *("ray", "start", *where, f"--node-ip-address={host.address}", "--num-cpus=1"),
            *(f"--resources={json.dumps({resource: 1})}", f"--object-store-memory={_OBJECTS_BYTES}"),
            "--disable-usage-stats",
            timeout_s=_LIMIT_S,
            environment=environment,
        )
    return address, environment

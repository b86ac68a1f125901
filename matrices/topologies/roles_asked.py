"""What is asked of a cell's processes before it begins: that they are what it needs, of one version and model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import grpc

from matrices.evidence import provenance
from matrices.spec.tooling import digest_of
from treni.channels import open_channel
from treni.errors import Code, TreniError, from_rpc_error
from treni.fence import pairs
from treni.v1 import evidence_pb2, inference_pb2, inference_pb2_grpc
from treni.v1.common_pb2 import ToolSpec

if TYPE_CHECKING:
    from matrices.topologies.role_client import RoleClient

INFO_TIMEOUT_S = 600.0
"""The limit of a runtime's answer to who it is, for one that hangs: its first one reads the whole checkpoint."""


def identity(info: inference_pb2.InfoResponse) -> dict[str, Any]:
    """What must be the same of all runtimes of a cell."""
    return {
        name: getattr(info, name)
        for name in ("model", "backend", "device", "dtype", "parameters", "checkpoint_sha256")
    }


def check_version(client: RoleClient, status: evidence_pb2.StatusResponse) -> None:
    """Raises FAILED_PRECONDITION where the role runs other code than the harness."""
    mine = {**provenance.versions(), "code": provenance.code()}
    for name in ("treni-route", "code"):
        if (got := status.versions.get(name, "none")) != mine[name]:
            raise TreniError(
                Code.FAILED_PRECONDITION,
                "versions_differ",
                expected=f"the {client.role} at {client.address} to run the harness's {name}, {mine[name][:12]}",
                got=got[:12],
                todo="install the same treni-route on every host",
            )


def check_backend(asked: str, info: inference_pb2.InfoResponse) -> None:
    """Raises FAILED_PRECONDITION where another backend answers than was asked for."""
    if info.backend != asked:
        raise TreniError(
            Code.FAILED_PRECONDITION,
            "backend_differs",
            expected=f"the backend {asked}, which was asked for",
            got=f"{info.backend} on {info.device}",
            todo=f"ask for --backend {info.backend}, or start the service with --backend {asked}",
        )


def check_kind(client: RoleClient, kind: str, status: evidence_pb2.StatusResponse) -> None:
    """Raises FAILED_PRECONDITION where the process at the address was started as something else than `kind`."""
    # An agent can be a mere runtime too: it serves what a cell asks for.
    if status.role != kind and (kind, status.role) != ("runtime", "agent"):
        raise TreniError(
            Code.FAILED_PRECONDITION,
            "role_differs",
            expected=f"`treni-route serve {kind} --testbed` at {client.address}",
            got=f"a process that serves {status.role}",
            todo="correct the address",
        )


async def info_of(client: RoleClient, fence: str) -> inference_pb2.InfoResponse:
    """What the runtime behind the role says of itself; `fence` is the session that it is asked in."""
    async with open_channel(client.service) as channel:
        stub = inference_pb2_grpc.InferenceServiceStub(channel)
        try:
            return await stub.Info(inference_pb2.InfoRequest(), timeout=INFO_TIMEOUT_S, metadata=pairs(fence))
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, hop="model") from None


def refuse_other_tools(specs: Iterable[ToolSpec], listed: Mapping[str, str]) -> None:
    """Raises FAILED_PRECONDITION (`tools_differ`) for a planned tool that is not hosted, or is another here.

    `listed` has the digest of each tool that the campaign was planned with.
    """
    hosted = {spec.name: digest_of(spec) for spec in specs}
    for name, digest in listed.items():
        if hosted.get(name) != digest:
            raise TreniError(
                Code.FAILED_PRECONDITION,
                "tools_differ",
                expected=f"the tool {name} as it was listed when the campaign was planned",
                got="another description or schema" if name in hosted else f"only {', '.join(hosted)}",
                todo="start every role that has tools with the --tools of the campaign, and the same servers",
            )

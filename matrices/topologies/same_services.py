"""What the services of a cell must be and have in common before anything is asked of them."""

from __future__ import annotations

from typing import Any

import grpc

from matrices.evidence import provenance
from matrices.topologies.role_client import RoleClient
from treni.channels import open_channel
from treni.errors import Code, TreniError, from_rpc_error
from treni.v1 import evidence_pb2, inference_pb2, inference_pb2_grpc

INFO_TIMEOUT_S = 600.0
"""The limit of a runtime's answer to who it is, for one that hangs: its first one reads the whole checkpoint."""


def identity_of(info: inference_pb2.InfoResponse) -> dict[str, Any]:
    """What two runtimes must have in common to be compared, by name."""
    return {
        name: getattr(info, name)
        for name in ("model", "backend", "device", "dtype", "parameters", "checkpoint_sha256")
    }


def check_version(client: RoleClient, status: evidence_pb2.StatusResponse) -> None:
    """Raises FAILED_PRECONDITION (`versions_differ`) where a role runs other code than the harness."""
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
    """Raises FAILED_PRECONDITION (`backend_differs`) for another backend than the one that was asked for."""
    if info.backend != asked:
        raise TreniError(
            Code.FAILED_PRECONDITION,
            "backend_differs",
            expected=f"the backend {asked}, which was asked for",
            got=f"{info.backend} on {info.device}",
            todo=f"ask for --backend {info.backend}, or start the service with --backend {asked}",
        )


def check_kind(client: RoleClient, kind: str, status: evidence_pb2.StatusResponse) -> None:
    """Raises FAILED_PRECONDITION (`role_differs`) where something else is served than the file says."""
    # An agent can be a mere runtime too: it serves what a cell asks for.
    if status.role != kind and (kind, status.role) != ("runtime", "agent"):
        raise TreniError(
            Code.FAILED_PRECONDITION,
            "role_differs",
            expected=f"`treni-route serve {kind} --testbed` at {client.address}",
            got=f"a process that serves {status.role}",
            todo="correct the address",
        )


async def info_of(client: RoleClient) -> inference_pb2.InfoResponse:
    """What a runtime says of itself. Raises `TreniError`."""
    async with open_channel(client.service) as channel:
        stub = inference_pb2_grpc.InferenceServiceStub(channel)
        try:
            return await stub.Info(inference_pb2.InfoRequest(), timeout=INFO_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, hop="model") from None

"""What can be told of a campaign before its first process starts: tools, model and backend are there."""

from __future__ import annotations

from pathlib import Path

from matrices.evidence.campaign import Campaign
from matrices.spec.suites import Suite
from matrices.spec.tooling import Tooling
from runtime_svc.backends import BACKENDS
from tools_svc.suggest import did_you_mean
from treni.channels import check_address
from treni.errors import TreniError, invalid_argument


def refuse_impossible(campaign: Campaign) -> None:
    """Raises INVALID_ARGUMENT for a campaign that could not answer a request; touches nothing."""
    options = campaign.options
    refuse_unknown_tools(campaign.suite, options.tooling)
    if options.toxiproxy is not None:
        check_address("--toxiproxy", options.toxiproxy)
    outside = [arm.name for arm in options.comparison if not arm.has_engine]
    if outside and options.topology != "local":
        raise invalid_argument(
            "arm_not_here",
            expected=f"--topology local for the arm {' and '.join(outside)}, which runs beside the harness",
            got=options.topology,
            todo="leave --topology out, or compare other arms",
        )
    _refuse_unfaultable(campaign)
    if options.topology == "local" and len(outside) < 2:
        _refuse_absent_model(options.model_dir)
        _refuse_absent_backend(options.backend)


def _refuse_unfaultable(campaign: Campaign) -> None:
    """Raises INVALID_ARGUMENT for faults, or a network, on the way to an endpoint on which no proxy can stand."""
    endpoint = campaign.options.endpoint
    if endpoint is None or endpoint.can_be_faulted:
        return
    faulted = [
        cell.profile.name
        for cell in campaign.cells
        for arm in cell.comparison
        if arm.model_outside and any(one.hop == "model" for one in cell.schedules_on(arm.name))
    ]
    if faulted or "model" in campaign.options.networks:
        raise invalid_argument(
            "endpoint_encrypted",
            expected="an http:// endpoint for what is done to its hop: "
            + (f"the faults of {', '.join(faulted)}" if faulted else "--network"),
            got="an https:// one: on a new connection a fault would strike the handshake, and not the request",
            todo="leave that out, or put a plain http:// gateway in front of it",
        )


def refuse_unknown_tools(suite: Suite, tooling: Tooling = Tooling()) -> None:  # noqa: B008
    """Raises INVALID_ARGUMENT (`suite_tool_unknown`) for a task that offers or calls a tool that it cannot have."""
    known = tooling.names
    for task in suite.tasks:
        for name in task.tools:
            if name not in known:
                raise invalid_argument(
                    "suite_tool_unknown",
                    expected=f"the tools of task {task.id!r} of suite {suite.name!r} to be among {', '.join(known)}",
                    got=repr(name),
                    todo=did_you_mean(name, known),
                )
        for call in task.calls:
            if call.name not in task.tools:
                raise invalid_argument(
                    "suite_tool_unknown",
                    expected=f"the calls of task {task.id!r} of suite {suite.name!r} to name a tool that it offers",
                    got=f"{call.name!r}, with {', '.join(task.tools) or 'none'} offered",
                    todo="offer it in `tools`, or correct the call",
                )


def _refuse_absent_model(model_dir: str | None) -> None:
    if model_dir is None:
        return
    from runtime_svc.model import open_model  # not at the top: NumPy takes its time

    try:
        open_model(Path(model_dir))
    except TreniError as error:
        raise _not_there("--model", error) from error


def _refuse_absent_backend(backend: str) -> None:
    try:
        BACKENDS[backend].refuse_absent()
    except TreniError as error:
        raise _not_there("--backend", error) from error


def _not_there(option: str, error: TreniError) -> TreniError:
    """The same words for what the user asked for, which is wrong on this machine."""
    return invalid_argument(
        error.kind, expected=f"{option}: {error.expected}", got=error.got, todo=error.todo
    )

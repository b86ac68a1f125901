"""`python -m controller`: serves the external routing arm until SIGINT or SIGTERM."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

import click

from controller.policy import Policy
from controller.remote import RemoteModel, RemoteTools, open_channel
from controller.server import AgentServicer, start
from treni import entry, serving
from treni.channels import check_address
from treni.door_options import DoorSettings, door_options
from treni.doors import Door
from treni.metrics import work_for
from treni.metrics_page import metrics_option, serving_metrics
from treni.trace_options import trace_options

ARM = "external"


def _policy_options(command: Any) -> Any:
    """One option for each field of the policy, with the policy's own defaults."""
    for field in reversed(dataclasses.fields(Policy)):
        option = "--" + field.name.replace("_", "-")
        kind = entry.WholeRange() if isinstance(field.default, int) else float
        command = click.option(option, type=kind, default=field.default, show_default=True)(command)
    return command


@entry.command()
@click.option("--model-address", required=True, help="host:port of the InferenceService.")
@click.option("--tools-address", required=True, help="host:port of the ToolService.")
@click.option(
    "--port", type=entry.WholeRange(0, 65535), default=0, help="Port to listen on; 0 picks a free one."
)
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@metrics_option
@trace_options("controller")
@door_options
@_policy_options
def main(
    model_address: str,
    tools_address: str,
    host: str,
    port: int,
    metrics_port: int | None,
    doors: DoorSettings,
    **policy: Any,
) -> None:
    """Serve the external arm. Prints one line of JSON with the address when it is ready."""
    check_address("--model-address", model_address)
    check_address("--tools-address", tools_address)
    work_for("", dict.fromkeys(("agent", "model", "tool"), ARM))
    with serving_metrics(metrics_port) as told:
        asyncio.run(_serve(model_address, tools_address, host, port, doors.door, Policy(**policy), told))


async def _serve(
    model_address: str,
    tools_address: str,
    host: str,
    port: int,
    door: Door,
    policy: Policy,
    told: dict[str, str],
) -> None:
    async with open_channel(model_address) as model, open_channel(tools_address) as tools:
        servicer = AgentServicer(arm=ARM, model=RemoteModel(model), tools=RemoteTools(tools), policy=policy)
        server = await start(servicer, host=host, port=port, door=door)
        try:
            await serving.until_told_to_stop({"service": "controller", "address": server.address, **told})
        finally:
            await server.stop()


if __name__ == "__main__":
    main(prog_name="treni-route serve controller")

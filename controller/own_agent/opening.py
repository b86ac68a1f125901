"""Opens an agent of the user's own, whichever way it is reached."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import httpx

from controller.endpoint.model import KEEPALIVE_S
from controller.own_agent.command import AgentCommand
from controller.own_agent.url import AgentAtUrl
from controller.own_agent.wire import OwnAgent
from treni.channels import open_http


@contextlib.asynccontextmanager
async def open_agent(
    *, url: str, key: str, command: Sequence[str], folder: str, log_path: Path
) -> AsyncIterator[OwnAgent]:
    """The agent at the URL, or, without one, the one that the command is; its processes end with the block."""
    if not url:
        agent = AgentCommand(command, folder=folder, log_path=log_path)
        try:
            yield agent
        finally:
            await agent.aclose()
        return
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=KEEPALIVE_S)
    async with open_http(timeout=None, follow_redirects=False, limits=limits) as client:
        yield AgentAtUrl(client, url=url, key=key)

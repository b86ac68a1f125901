"""The three roles as processes of their own, as a user starts them."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from tests.limits import HANG_S

MODEL = Path("runtime_svc/checkpoints/treni-tiny").resolve()


async def start(*arguments: str, environment: Mapping[str, str] | None = None) -> asyncio.subprocess.Process:
    """`python -m ARGUMENTS`, with `environment` instead of the tests' own where it is given."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=None if environment is None else dict(environment),
    )


@asynccontextmanager
async def role(*arguments: str, environment: Mapping[str, str] | None = None) -> AsyncIterator[str]:
    """A role that serves while the block runs, and stops when told; its address."""
    process = await start(*arguments, environment=environment)
    try:
        assert process.stdout is not None
        line = await asyncio.wait_for(process.stdout.readline(), HANG_S)
        assert line, (await process.communicate())[1].decode()
        yield json.loads(line)["address"]
        process.terminate()
        _, errors = await asyncio.wait_for(process.communicate(), HANG_S)
        assert (process.returncode, b"Traceback" in errors) == (0, False), errors.decode()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@asynccontextmanager
async def all_roles(
    tmp_path: Path, *, environment: Mapping[str, str] | None = None
) -> AsyncIterator[dict[str, str]]:
    """Tools, runtime and a controller before both; their addresses."""
    env = dict(os.environ) if environment is None else environment
    async with AsyncExitStack() as stack:
        tools = await stack.enter_async_context(
            role("tools_svc", "--ledger", str(tmp_path / "ledger.sqlite"), environment=env)
        )
        runtime = await stack.enter_async_context(role("runtime_svc", "--model", str(MODEL), environment=env))
        hops = ("--model-address", runtime, "--tools-address", tools)
        patience = (
            "--tool-timeout-s",
            f"{HANG_S}",
            "--model-timeout-s",
            f"{HANG_S}",
            "--run-timeout-s",
            f"{HANG_S}",
        )
        controller = await stack.enter_async_context(role("controller", *hops, *patience, environment=env))
        yield {"tools": tools, "runtime": runtime, "controller": controller}

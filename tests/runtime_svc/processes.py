"""The runtime as a process of its own."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any


@asynccontextmanager
async def runtime(
    directory: Path, *options: str
) -> AsyncIterator[tuple[dict[str, Any], asyncio.subprocess.Process]]:
    """`python -m runtime_svc` on a free port; its ready line and its process."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "runtime_svc",
        "--model",
        str(directory),
        *options,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        yield json.loads(await process.stdout.readline()), process
        process.terminate()
        assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()

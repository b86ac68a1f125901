"""The runtime as a process of its own."""

import asyncio
import json
import sys
from contextlib import asynccontextmanager


@asynccontextmanager
async def runtime(directory, *options):
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
    try:
        yield json.loads(await process.stdout.readline()), process
        process.terminate()
        assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()

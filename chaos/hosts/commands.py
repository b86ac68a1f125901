"""Commands of the system that change what a host does with packets."""

from __future__ import annotations

import asyncio

from treni.errors import Code, TreniError


async def run(command: list[str], text: str = "") -> str:
    """What the command prints. Raises INTERNAL (`fault_not_applied`) with its complaint where it fails."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, complaint = await process.communicate(text.encode())
    if process.returncode != 0:
        raise TreniError(
            Code.INTERNAL,
            "fault_not_applied",
            expected=f"`{' '.join(command)}` to work",
            got=complaint.decode(errors="replace").strip()[-300:],
            todo="see what this host's kernel lacks",
        )
    return out.decode(errors="replace")

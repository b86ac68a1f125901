"""What is said when a service does not start while others do."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from matrices.topologies import local as topology
from treni.errors import Code, TreniError


def test_the_cause_is_told_when_the_other_start_fails_on_being_called_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def start(role: str, *_: object, **__: object) -> None:
        if role == "runtime":
            raise TreniError(Code.UNAVAILABLE, "process_not_ready", expected="it", got="nothing", todo="look")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise ProcessLookupError("gone") from None

    monkeypatch.setattr(topology, "start_child", start)

    async def start_both() -> None:
        async with AsyncExitStack() as stack:
            await topology._start_roles({"tools": {}, "runtime": {}}, ("tools", "runtime"), tmp_path, stack)

    with pytest.raises(TreniError, match="got nothing") as raised:
        asyncio.run(start_both())
    assert "gone" in raised.value.__notes__[0]

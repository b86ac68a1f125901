"""What is said when a service does not start while others do."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from matrices.arms.parts import parts
from matrices.arms.registry import DEFAULT
from matrices.evidence.campaign import Options
from matrices.topologies import local as topology
from treni.door_options import UNGUARDED
from treni.errors import Code, TreniError

PARTS = {role: part for role, part in parts(DEFAULT).items() if role != "controller"}
OPTIONS = Options(
    suite="core",
    runs=1,
    seed=0,
    concurrency=1,
    topology="local",
    backend="numpy",
    model_dir=None,
    idempotency=True,
    margin=0.05,
    restarts=1,
    toxiproxy=None,
)


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
            await topology._start_roles(PARTS, OPTIONS, tmp_path, UNGUARDED, stack)

    with pytest.raises(TreniError, match="got nothing") as raised:
        asyncio.run(start_both())
    assert "gone" in raised.value.__notes__[0]

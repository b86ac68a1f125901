"""The controller as a process."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import pytest

from tests.controller.doubles import completion, task
from tests.controller.servers import Inference, inference, real_tools, run_task
from tests.limits import HANG_S


async def start_process(*arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "controller",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def test_it_serves_until_it_is_told_to_stop(tmp_path: Path) -> None:
    model = Inference(lambda request: completion("Hello."))
    async with inference(model) as model_address, real_tools(tmp_path) as tools_address:
        process = await start_process(
            *("--model-address", model_address, "--tools-address", tools_address),
            *("--run-timeout-s", f"{4 * HANG_S}", "--model-timeout-s", f"{2 * HANG_S}"),
        )
        assert process.stdout is not None
        ready = json.loads(await asyncio.wait_for(process.stdout.readline(), HANG_S))
        ran = await run_task(ready["address"], task(), timeout_s=None)
        process.terminate()
        assert await asyncio.wait_for(process.wait(), HANG_S) == 0
    assert ready["service"] == "controller"
    assert ran.answer == "Hello."
    (remaining_s,) = model.time_remaining_s
    assert remaining_s is not None
    assert HANG_S < remaining_s < 2.02 * HANG_S


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tools-address", "127.0.0.1:1"], "--model-address"),
        (
            ["--model-address", "a:1", "--tools-address", "b:1", "--tool-timeout-s", "0"],
            "expected tool_timeout_s to be a number over 0 and at most 31536000; got 0.0",
        ),
    ],
)
async def test_a_wrong_option_is_named(arguments: list[str], message: str) -> None:
    process = await start_process(*arguments)
    _, errors = await asyncio.wait_for(process.communicate(), HANG_S)
    assert process.returncode not in (0, None)
    assert message in errors.decode()
    assert "Traceback" not in errors.decode()

"""A contender in a child process: this runtime, and the peers that are Python packages."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, BinaryIO

from runtime_svc.bench.child import ChildSettings
from runtime_svc.bench.contender import Absent, Failed, Started
from runtime_svc.bench.record import Cold

_END_GRACE_S = 5.0
_LINE_LIMIT = 1 << 20
_LOG_LINES = 20

ROOTS = [str(Path(__file__).parents[2]), str(Path(__file__).parents[2] / "proto")]
"""What a peer's interpreter, which does not have this package installed, needs on its path to find the child."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Kind:
    """A module that serves as a child. `arguments` follow its settings."""

    name: str
    module: str
    arguments: tuple[str, ...] = ()
    batches: tuple[int, ...] | None = None
    limits: str = ""


TRENI = Kind(name="treni", module="runtime_svc.bench.child_treni")

PEERS = {
    kind.name: kind
    for kind in (
        Kind(name="transformers", module="runtime_svc.bench.child_transformers"),
        Kind(
            name="transformers-compiled",
            module="runtime_svc.bench.child_transformers",
            arguments=("compiled",),
            batches=(1,),
            limits="measured at batch 1 only: every batch size is a compilation of its own, about a minute",
        ),
        Kind(name="vllm", module="runtime_svc.bench.child_vllm"),
    )
}


def prompt_ids(length: int, vocabulary: int, seed: int) -> list[int]:
    """`length` token ids, the same for the same arguments."""
    generator = random.Random(f"{seed}/{length}")
    return [generator.randrange(vocabulary) for _ in range(length)]


class ChildContender:
    """Speaks to one child at a time. `limit_s` is all the time that its children may take together, in work."""

    def __init__(
        self,
        kind: Kind,
        settings: ChildSettings,
        *,
        python: str,
        vocabulary: int,
        batches: list[int],
        measure_limit_s: float,
        limit_s: float,
    ) -> None:
        self._kind = kind
        self._settings = settings
        self._python = python
        self._vocabulary = vocabulary
        self._batches = batches
        self._measure_limit_s = measure_limit_s
        self._limit_s = self._left_s = limit_s
        self._process: asyncio.subprocess.Process | None = None
        self._log: BinaryIO = tempfile.TemporaryFile()  # noqa: SIM115

    @property
    def name(self) -> str:
        """The name of the contender's kind."""
        return self._kind.name

    @property
    def imports(self) -> tuple[str, str]:
        """What its processes import, and by which interpreter; equal for contenders that one probe serves."""
        return self._kind.module, self._python

    @property
    def batches(self) -> list[int]:
        """The batch sizes of the session that the kind does."""
        allowed = self._kind.batches
        return [b for b in self._batches if allowed is None or b in allowed]

    @property
    def limits(self) -> str:
        """The kind's, where they cost this session something."""
        return self._kind.limits if len(self.batches) < len(self._batches) else ""

    async def probe(self) -> None:
        """Imports the runtime in a child and ends it, so that no cold start reads its files from the disk."""
        await self._spawn(probe=True)
        await self._event("present", "importing")
        await self._stop()

    async def start(self) -> Started:
        """Ends the child before, if there is one, and starts another."""
        await self._stop()
        await self._spawn(probe=False)
        ready = await self._event("ready", "loading the model")
        first = await self._event("first_token", "making its first token")
        outside_s = time.monotonic() - self._spawned_s
        done = await self._event("answered", "giving its first answer")
        return Started(
            device=done["device"],
            versions=done["versions"],
            cold=Cold(
                ready_s=ready["at"] - self._spawned_s,
                first_token_s=first["at"] - self._spawned_s,
                total_s=done["at"] - self._spawned_s,
                outside_s=outside_s,
                tokens=done["tokens"],
                stages=done["stages"],
            ),
        )

    async def ttft(self, prompt_tokens: int, seed: int) -> tuple[float, int]:
        """The child's clock, around its call."""
        prompt = prompt_ids(prompt_tokens, self._vocabulary, seed)
        answer = await self._ask({"do": "ttft", "prompt": prompt}, f"prefilling {prompt_tokens} tokens")
        return answer["seconds"], prompt_tokens

    async def decode(self, batch: int, context: int, tokens: int, seed: int) -> tuple[float, int]:
        """The child's clock, after the prefill."""
        prompts = [prompt_ids(context, self._vocabulary, seed * 1000 + row) for row in range(batch)]
        command = {"do": "decode", "prompts": prompts, "tokens": tokens, "limit_s": self._measure_limit_s}
        answer = await self._ask(command, f"decoding at batch {batch}")
        return answer["seconds"], answer["tokens"]

    async def floors(self) -> dict[str, float]:
        """The machine's bounds as the child sees them."""
        answer = await self._ask({"do": "floors"}, "measuring the floors")
        return {name: value for name, value in answer.items() if name != "event"}

    async def aclose(self) -> None:
        """Ends the child."""
        await self._stop()
        self._log.close()

    async def _spawn(self, *, probe: bool) -> None:
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(ROOTS)}
        for variable in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"):
            environment[variable] = str(self._settings.threads)
        self._spawned_s = time.monotonic()
        settings = dataclasses.replace(self._settings, spawned_s=self._spawned_s, probe=probe)
        command = [json.dumps(dataclasses.asdict(settings)), *self._kind.arguments]
        try:
            self._process = await asyncio.create_subprocess_exec(
                *(self._python, "-m", self._kind.module, *command),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=self._log,
                env=environment,
                limit=_LINE_LIMIT,
                start_new_session=True,  # vLLM has children of its own, which must end with it
            )
        except OSError as error:
            raise Absent(f"{self._python}: {error}") from None

    async def _ask(self, command: dict[str, Any], doing: str) -> dict[str, Any]:
        process = self._process
        if process is None or process.stdin is None:
            raise Failed("its process is not running")
        with contextlib.suppress(ConnectionError):  # the event that does not come says what happened
            process.stdin.write(json.dumps(command).encode() + b"\n")
            await process.stdin.drain()
        return await self._event("result", doing)

    async def _event(self, wanted: str, doing: str) -> dict[str, Any]:
        assert self._process is not None
        assert self._process.stdout is not None
        before = time.monotonic()
        try:
            async with asyncio.timeout(max(self._left_s, 0.0)):
                line = await self._process.stdout.readline()
        except TimeoutError:
            await self._stop(grace_s=0.0)
            raise Failed(f"cut at its limit of {self._limit_s:g} s, while {doing}") from None
        self._left_s -= time.monotonic() - before
        if not line:
            await self._stop()
            self._show_log()
            raise Failed(f"its process ended while {doing}; the end of its log is on stderr")
        event: dict[str, Any] = json.loads(line)
        if event["event"] == "absent":
            raise Absent(event["reason"])
        if event["event"] != wanted:
            await self._stop()
            self._show_log()
            raise Failed(f"while {doing}: {event.get('reason', event)}")
        return event

    async def _stop(self, *, grace_s: float = _END_GRACE_S) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        process.stdin.close()
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(grace_s):
                    await process.wait()
        finally:  # also when the session is interrupted here
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()

    def _show_log(self) -> None:
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").splitlines()
        for line in lines[-_LOG_LINES:]:
            print(f"{self.name} | {line}", file=sys.stderr)

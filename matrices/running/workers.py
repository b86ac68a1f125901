"""Client processes: several send a campaign's requests and time them, and the harness alone writes the history."""

from __future__ import annotations

import asyncio
import base64
import itertools
import os
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress

from grpc.aio import Channel

from matrices.running.client import AgentClient, AgentClients, Invocation
from matrices.running.worker import LINE_BYTES, Asked, Told
from treni import processes
from treni.channels import shown
from treni.errors import Code, TreniError
from treni.v1 import agent_pb2


class Worker:
    """One client process. Use `workers`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._numbers = itertools.count()
        self._asked: dict[int, asyncio.Future[Invocation]] = {}
        self._listening = asyncio.create_task(self._listen())

    @property
    def pid(self) -> int:
        """The id of its process."""
        return self._process.pid

    async def run(
        self,
        address: str,
        fence: str,
        request: agent_pb2.RunRequest,
        timeout_s: float,
        marks: Mapping[str, str],
    ) -> Invocation:
        """What the request came to at the agent there. Raises UNAVAILABLE where the process is lost."""
        number = next(self._numbers)
        asked = Asked(
            number=number,
            address=address,
            fence=fence,
            request=base64.b64encode(request.SerializeToString()).decode(),
            timeout_s=timeout_s,
            marks=dict(marks),
        )
        told: asyncio.Future[Invocation] = asyncio.get_running_loop().create_future()
        self._asked[number] = told
        try:
            if self._listening.done():
                raise self._lost()
            self._say(asked)
            return await told
        except asyncio.CancelledError:
            self._say(Asked(number=number))
            raise
        finally:
            self._asked.pop(number, None)

    async def stop(self) -> None:
        """Ends the process."""
        await processes.stop(self._process)
        await self._listening

    def _say(self, asked: Asked) -> None:
        assert self._process.stdin is not None
        with suppress(ConnectionError):  # who listens notices that it is gone
            self._process.stdin.write(asked.model_dump_json().encode() + b"\n")

    async def _listen(self) -> None:
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            told = Told.model_validate_json(line)
            waiting = self._asked.get(told.number)
            if waiting is not None and not waiting.done():
                waiting.set_result(told.invocation())
        await self._process.wait()
        for waiting in self._asked.values():
            if not waiting.done():
                waiting.set_exception(self._lost())

    def _lost(self) -> TreniError:
        return TreniError(
            Code.UNAVAILABLE,
            "worker_lost",
            expected="every client process to live as long as the cell",
            got=f"process {self.pid} ended with status {self._process.returncode}",
            todo="go on with --resume: what it had begun is run again",
        )


class AgentAtWorker:
    """The agent at an address as one worker reaches it."""

    def __init__(self, worker: Worker, address: str, *, fence: str) -> None:
        self._worker = worker
        self._address = address
        self._fence = fence

    async def run(
        self, request: agent_pb2.RunRequest, *, timeout_s: float, marks: Mapping[str, str] | None = None
    ) -> Invocation:
        """Runs the task, timed by the worker. Raises UNAVAILABLE where the worker is lost, and for nothing else."""
        return await self._worker.run(self._address, self._fence, request, timeout_s, marks or {})

    async def close(self) -> None:
        """Nothing: the channel is the worker's, and ends with it."""


def clients_of(
    agents: Mapping[str, str], lanes: Mapping[str, Channel], fence: str, helping: Sequence[Worker]
) -> AgentClients:
    """Whoever sends an arm's requests to its agents, which are told by role: the harness itself, or these workers.

    `lanes` has the channels of the harness that are open already, by role.
    """
    if not helping:
        return AgentClients(
            [AgentClient(address, lanes.get(role), fence=fence) for role, address in agents.items()]
        )
    clients = [AgentAtWorker(one, address, fence=fence) for one in helping for address in agents.values()]
    return AgentClients(clients, workers=len(helping))


@asynccontextmanager
async def workers(count: int) -> AsyncIterator[tuple[Worker, ...]]:
    """Client processes, so many of them, while the block runs; none for one, which is the harness itself.

    Raises UNAVAILABLE where one does not come up.
    """
    async with AsyncExitStack() as stack:
        started = []
        for _ in range(count if count > 1 else 0):
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "matrices.running.worker", str(os.getpid()), shown().to_json()),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                limit=LINE_BYTES,
                # A Ctrl-C at the terminal is the harness's to handle.
                start_new_session=True,
            )
            stack.push_async_callback(processes.stop, process)
            assert process.stdout is not None
            if not await process.stdout.readline():
                raise TreniError(
                    Code.UNAVAILABLE,
                    "worker_lost",
                    expected="a client process to start",
                    got=f"exit status {await process.wait()}",
                    todo="see what it said on stderr",
                )
            worker = Worker(process)
            stack.push_async_callback(worker.stop)
            started.append(worker)
        yield tuple(started)

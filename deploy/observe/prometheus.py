"""A Prometheus of our own: started with our configuration in a folder of its own, asked, and ended."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from treni import processes
from treni.channels import open_http
from treni.errors import Code, TreniError
from treni.serving import free_port

CONFIG = Path(__file__).parents[1] / "prometheus"
"""The scrape configuration and the rules."""

TARGETS = "targets"
"""The folder, beside the configuration, whose lists of targets are read."""

START_LIMIT_S = 60.0
_RETRY_S = 0.1


class Prometheus:
    """A server that answers at `url` and reads lists of targets in `targets`."""

    def __init__(self, url: str, targets: Path, client: httpx.AsyncClient) -> None:
        self.url = url
        self.targets = targets
        self._client = client

    async def rules(self) -> list[dict[str, Any]]:
        """Every rule, with its health."""
        groups = (await self._get("rules"))["groups"]
        return [rule for group in groups for rule in group["rules"]]

    async def over(self, expr: str, *, start_s: float, end_s: float) -> list[dict[str, Any]]:
        """The series of a query between two moments of the wall clock, second by second. Raises for a wrong query."""
        asked = {"query": expr, "start": str(start_s), "end": str(end_s), "step": "1"}
        found: list[dict[str, Any]] = (await self._get("query_range", asked))["result"]
        return found

    async def now(self, expr: str) -> list[dict[str, Any]]:
        """The samples of a query now. Raises for a wrong query."""
        found: list[dict[str, Any]] = (await self._get("query", {"query": expr}))["result"]
        return found

    async def _get(self, what: str, asked: Mapping[str, str] | None = None) -> Any:
        answer = (await self._client.get(f"{self.url}/api/v1/{what}", params=asked)).json()
        if answer["status"] != "success":
            raise TreniError(
                Code.INVALID_ARGUMENT,
                "query_refused",
                expected=f"a query that Prometheus takes, not {(asked or {}).get('query', what)}",
                got=str(answer.get("error")),
                todo="correct the query",
            )
        return answer["data"]


def program(given: Path | None) -> Path:
    """The Prometheus to run: the one that is given, else the system's. Raises FAILED_PRECONDITION for none."""
    found = shutil.which("prometheus" if given is None else str(given))
    if found is None:
        raise TreniError(
            Code.FAILED_PRECONDITION,
            "prometheus_missing",
            expected="a Prometheus",
            got="none on the PATH" if given is None else f"nothing to run at {given}",
            todo="install one (Debian: prometheus), or name it (PROMETHEUS=)",
        )
    return Path(found)


@asynccontextmanager
async def prometheus(folder: Path, *, binary: Path, port: int = 0) -> AsyncIterator[Prometheus]:
    """The Prometheus `binary` over `folder`, its data and its log there, while the block runs; port 0 picks a free one.

    Raises UNAVAILABLE where it does not come up.
    """
    (folder / TARGETS).mkdir(parents=True, exist_ok=True)
    for file in CONFIG.glob("*.yml"):
        shutil.copy(file, folder / file.name)
    address = f"127.0.0.1:{port or free_port()}"
    with (folder / "prometheus.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            binary,
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address={address}",
            "--enable-feature=exemplar-storage",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, "TZ": "UTC"},
            start_new_session=True,
        )
    try:
        async with open_http(timeout=START_LIMIT_S) as client:
            server = Prometheus(f"http://{address}", folder / TARGETS, client)
            await _ready(process, server.url, client, folder / "prometheus.log")
            yield server
    finally:
        await processes.stop(process)


async def _ready(process: asyncio.subprocess.Process, url: str, client: httpx.AsyncClient, log: Path) -> None:
    loop = asyncio.get_running_loop()
    until_s = loop.time() + START_LIMIT_S
    while process.returncode is None and loop.time() < until_s:
        try:
            if (await client.get(f"{url}/-/ready")).status_code == httpx.codes.OK:
                return
        except httpx.TransportError:
            pass
        await asyncio.sleep(_RETRY_S)
    raise TreniError(
        Code.UNAVAILABLE,
        "prometheus_not_ready",
        expected=f"Prometheus to be ready at {url}",
        got=log.read_text(encoding="utf-8", errors="replace")[-600:].strip() or "silence",
        todo=f"see {log}",
    )

"""The toxiproxy server: its process, started and stopped by us or attached to, and its HTTP API.

The `toxiproxy-python` client is used through `ToxiproxyClient` alone, which works around what it lacks: its
address is a class attribute shared by the whole process, it sets no timeouts, takes a server's 500 for success,
and never looks at what the server made of a request.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil
import requests
from toxiproxy.api import APIConsumer
from toxiproxy.exceptions import InvalidToxic, NotFound, ProxyExists

from chaos.faults import Toxic
from chaos.toxiproxy_build import ensure_server
from treni import processes
from treni.doors import is_loopback
from treni.errors import Code, TreniError
from treni.serving import free_port

START_TIMEOUT_S = 120.0
API_TIMEOUT_S = 30.0
"""Both for a server that hangs: one that ended, or whose port another has, is noticed by that."""

LOOPBACK = "127.0.0.1"
"""Where a server listens for those on this machine alone."""

_POLL_S = 0.02

_log = logging.getLogger("treni.chaos")
_START_TRIES = 5

# Sets PR_SET_PDEATHSIG and becomes the server: the setting outlives exec, and unlike a preexec_fn this runs no
# Python between fork and exec in a process that has threads. argv: parent's pid, program, its arguments.
_LAUNCHER = """
import ctypes, os, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)
if os.getppid() != int(sys.argv[1]):
    sys.exit(1)
os.execv(sys.argv[2], sys.argv[2:])
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Proxy:
    """A proxy as the server has it; addresses are "host:port"."""

    name: str
    listen: str
    upstream: str


class ToxiproxyClient:
    """One server's API. Every method blocks, at most `timeout_s`, and raises `TreniError`:

    UNAVAILABLE when the server does not answer, FAILED_PRECONDITION when it refuses, INTERNAL when what it
    reports afterwards is not what was asked for.
    """

    def __init__(self, address: str, *, timeout_s: float = API_TIMEOUT_S) -> None:
        host, _, port = address.rpartition(":")
        self.host = host
        # The client's methods read host and port from their class: a class for each address keeps them apart.
        self._api = type("Api", (APIConsumer,), {"host": host, "port": port})
        self._address = address
        self._timeout_s = timeout_s

    def version(self) -> str:
        """The server's version, such as "2.12.0"."""
        return str(self._ask("get", "/version")["version"])

    def create_proxy(self, name: str, *, upstream: str, listen: str = "127.0.0.1:0") -> Proxy:
        """A new proxy, enabled and without toxics; port 0 lets the server choose, and the answer has the port."""
        self._ask(
            "post", "/proxies", json={"name": name, "upstream": upstream, "listen": listen, "enabled": True}
        )
        got = self._ask("get", f"/proxies/{name}")
        self._expect(name, {"upstream": upstream, "enabled": True, "toxics": []}, got)
        return Proxy(name=name, listen=got["listen"], upstream=got["upstream"])

    def add_toxic(self, proxy: str, toxic: Toxic) -> None:
        """Installs a toxic, on open connections too."""
        wanted = {
            "name": toxic.name,
            "type": toxic.type,
            "stream": toxic.stream,
            "toxicity": 1.0,
            "attributes": dict(toxic.attributes),
        }
        self._ask("post", f"/proxies/{proxy}/toxics", json=wanted)
        self._expect(
            f"{proxy}/{toxic.name}", wanted, self._ask("get", f"/proxies/{proxy}/toxics/{toxic.name}")
        )

    def delete_proxy(self, name: str) -> None:
        """Removes a proxy and its connections; bytes that a toxic holds are dropped."""
        self._ask("delete", f"/proxies/{name}")

    def proxies(self) -> dict[str, Proxy]:
        """Every proxy by name."""
        return {
            name: Proxy(name=name, listen=got["listen"], upstream=got["upstream"])
            for name, got in self._ask("get", "/proxies").items()
        }

    def _ask(self, method: str, path: str, **kwargs: Any) -> Any:
        try:
            response = getattr(self._api, method)(
                path,
                timeout=self._timeout_s,
                # The API is on a host we were given: an HTTP proxy of the environment must not come between.
                proxies={"http": None, "all": None},
                **kwargs,
            )
            if response.status_code >= 400:
                raise self._refused(path, f"status {response.status_code}: {response.text.strip()}")
            return response.json() if response.content else None
        except (ProxyExists, NotFound, InvalidToxic) as error:
            raise self._refused(path, f"{type(error).__name__}: {error}") from None
        except (requests.RequestException, ValueError) as error:
            raise TreniError(
                Code.UNAVAILABLE,
                "toxiproxy_unreachable",
                expected=f"the toxiproxy server at {self._address} to answer {path}",
                got=f"{type(error).__name__}: {error}",
                todo="see that it runs and that the address is right",
            ) from None

    def _refused(self, path: str, got: str) -> TreniError:
        return TreniError(
            Code.FAILED_PRECONDITION,
            "toxiproxy_refused",
            expected=f"the toxiproxy server at {self._address} to accept {path}",
            got=got,
            todo="see what it says",
        )

    def _expect(self, what: str, wanted: Mapping[str, Any], got: Mapping[str, Any]) -> None:
        differences = {key: got.get(key) for key, value in wanted.items() if got.get(key) != value}
        if differences:
            raise TreniError(
                Code.INTERNAL,
                "toxiproxy_mismatch",
                expected=f"{what} to read back as {json.dumps(dict(wanted))}",
                got=json.dumps(differences),
                todo="check the server's version, and that nobody else uses it",
            )


class ToxiproxyServer:
    """A toxiproxy server in use: ours, with a process to stop, or somebody's, attached to by address."""

    def __init__(self, address: str, version: str, process: asyncio.subprocess.Process | None) -> None:
        self.address = address
        self.version = version
        self._process = process

    @classmethod
    async def start(
        cls, *, program: Path | None = None, log_path: Path | None = None, host: str = LOOPBACK
    ) -> ToxiproxyServer:
        """Starts a server on a free port of `host` and returns once it serves; its log goes to `log_path`.

        Of a host that other machines reach it is told that its API lets everybody in. `program` defaults to what
        `ensure_server` finds or builds. The server dies with the thread that runs
        this event loop. Raises UNAVAILABLE if it does not come up, FAILED_PRECONDITION if there is none to start.
        """
        program = await asyncio.to_thread(ensure_server) if program is None else program
        for _ in range(_START_TRIES):
            started = await cls._start_on(host, free_port(host), program, log_path)
            if started is not None:
                return started
        raise _not_up(program, f"no port to listen on in {_START_TRIES} tries")

    @classmethod
    async def attach(cls, address: str) -> ToxiproxyServer:
        """Uses the server at "host:port". Raises UNAVAILABLE if none answers, FAILED_PRECONDITION below 2.0.

        Of one that other machines reach it is told that its API lets everybody in.
        """
        if not is_loopback(address.rpartition(":")[0]):
            _log.warning(
                "whoever reaches this API can turn the proxies elsewhere: it has no key",
                extra={"toxiproxy": address},
            )
        version = await asyncio.to_thread(ToxiproxyClient(address).version)
        if version.split(".")[0].isdecimal() and int(version.split(".")[0]) < 2:
            raise TreniError(
                Code.FAILED_PRECONDITION,
                "toxiproxy_too_old",
                expected="a toxiproxy server of version 2",
                got=f"version {version} at {address}",
                todo="start a newer one",
            )
        return cls(address, version, None)

    @property
    def pid(self) -> int | None:
        """The process id of a server of ours."""
        return None if self._process is None else self._process.pid

    def death(self) -> str | None:
        """How a server of ours ended, such as "toxiproxy ended with status -9"; None while it runs."""
        code = None if self._process is None else self._process.returncode
        return None if code is None else f"toxiproxy ended with status {code}"

    async def stop(self) -> None:
        """Ends a server of ours, with all its proxies; leaves one that was attached to. May be called again."""
        if self._process is not None:
            await processes.stop(self._process)

    async def __aenter__(self) -> ToxiproxyServer:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    @classmethod
    async def _start_on(
        cls, host: str, port: int, program: Path, log_path: Path | None
    ) -> ToxiproxyServer | None:
        """The server on that port; None if something else took it first."""
        with (log_path if log_path is not None else Path(os.devnull)).open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-I", "-S", "-c", _LAUNCHER, str(os.getpid()), str(program)),
                *("-host", host, "-port", str(port)),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "LOG_LEVEL": "warn"},
                # A Ctrl-C at the terminal is for whoever started us to handle.
                start_new_session=True,
            )
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                if not await _listens(process, host, port, program):
                    await processes.stop(process)
                    return None
                address = f"{host}:{port}"
                attached = await cls.attach(address)
        except BaseException as error:
            await processes.stop(process)
            if isinstance(error, TimeoutError):
                raise _not_up(program, f"no answer in {START_TIMEOUT_S:.0f} s") from None
            raise
        return cls(address, attached.version, process)


async def _listens(process: asyncio.subprocess.Process, host: str, port: int, program: Path) -> bool:
    """Waits until this very process listens on the port; False as soon as another one does.

    On a taken port the server logs an error and lives on, and another server may well answer there.
    """
    while process.returncode is None:
        taken = await _answers(
            host, port
        )  # asked before who it is: else ours could come to listen between the two
        if _is_listening(process.pid, port):
            return True
        if taken:
            return False
        await asyncio.sleep(_POLL_S)
    raise _not_up(program, f"exit status {process.returncode}")


def _is_listening(pid: int, port: int) -> bool:
    try:
        connections = psutil.Process(pid).net_connections(kind="tcp")
    except psutil.Error:
        return False
    return any(item.status == psutil.CONN_LISTEN and item.laddr.port == port for item in connections)


async def _answers(host: str, port: int) -> bool:
    """Whether anybody accepts connections on the port."""
    try:
        _, writer = await asyncio.open_connection(host, port)
    except OSError:
        return False
    writer.close()
    return True


def _not_up(program: Path, got: str) -> TreniError:
    return TreniError(
        Code.UNAVAILABLE,
        "toxiproxy_not_up",
        expected=f"{program} to serve its API",
        got=got,
        todo="see its log",
    )

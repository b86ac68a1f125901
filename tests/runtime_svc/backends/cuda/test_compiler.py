"""Where the CPU build's compiler comes from."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime_svc.backends.cuda.shim.compiler import ZIG, compiler
from treni.errors import Code, TreniError


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A PATH with nothing on it, an empty cache, and a package index that cannot be reached."""
    tools = tmp_path / "bin"
    tools.mkdir()
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tools))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    compiler.cache_clear()
    yield tools
    compiler.cache_clear()


def program(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)


def test_what_is_named_comes_before_what_is_on_the_path(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(bare / "clang++")
    assert compiler() == (str(bare / "clang++"),)
    program(bare / "g++")
    compiler.cache_clear()
    assert compiler() == (str(bare / "g++"),)
    monkeypatch.setenv("CXX", "ccache 'my g++'")
    compiler.cache_clear()
    assert compiler() == ("ccache", "my g++")


def test_one_that_was_fetched_is_used_again(bare: Path, tmp_path: Path) -> None:
    fetched = tmp_path / "cache" / "treni-route" / ZIG.replace("==", "-") / "ziglang" / "zig"
    program(fetched)
    assert compiler() == (str(fetched), "c++")


def test_without_a_compiler_and_without_an_index_it_says_what_to_install(bare: Path, tmp_path: Path) -> None:
    with pytest.raises(TreniError, match=r"install g\+\+, or go online") as caught:
        compiler()
    assert (caught.value.code, caught.value.kind) == (Code.FAILED_PRECONDITION, "compiler_missing")
    assert [path.suffix for path in (tmp_path / "cache" / "treni-route").iterdir()] == [".lock"]

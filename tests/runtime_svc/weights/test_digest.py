"""The digest of a checkpoint: of everything that decides an answer, and read once where it is large."""

import os
from collections.abc import Iterable
from pathlib import Path

import pytest

from runtime_svc.weights import digest


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Files that are large enough and old enough for their digest to be kept, in a cache of their own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(digest, "_WORTH_KEEPING", 1)
    monkeypatch.setattr(digest, "_SETTLED_S", -1e9)
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("config.json", "model.safetensors", "chat_template.jinja"):
        (folder / name).write_text(name)
    return folder


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files whose bytes were read."""
    seen: list[str] = []
    through = digest._digest

    def counted(files: Iterable[Path]) -> str:
        files = list(files)
        seen.extend(file.name for file in files)
        return through(files)

    monkeypatch.setattr(digest, "_digest", counted)
    return seen


def test_the_second_time_nothing_is_read(directory: Path, reads: list[str]) -> None:
    first = digest.sha256(directory)
    assert len(reads) == 3
    assert digest.sha256(directory) == first
    assert len(reads) == 3


def test_any_change_is_seen(directory: Path, reads: list[str]) -> None:
    seen = {digest.sha256(directory)}
    weights = directory / "model.safetensors"
    before = weights.stat()
    weights.write_text("Model.safetensors")  # as long as before, and set back to when it was
    os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))
    seen.add(digest.sha256(directory))
    weights.rename(directory / "other.safetensors")
    seen.add(digest.sha256(directory))
    (directory / "more.json").write_text("{}")
    seen.add(digest.sha256(directory))
    (directory / "notes.txt").write_text("not part of it")
    assert digest.sha256(directory) in seen
    assert len(seen) == 4


def test_files_of_just_now_are_read_again(
    directory: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A change within the clock's own step need not show in a file's times."""
    monkeypatch.setattr(digest, "_SETTLED_S", 1e9)
    digest.sha256(directory)
    digest.sha256(directory)
    assert len(reads) == 6


@pytest.mark.parametrize("kept", [b"", b"\xff", b"0" * 63, b"../" * 21 + b"x"])
def test_a_spoilt_cache_is_not_believed(directory: Path, tmp_path: Path, kept: bytes) -> None:
    expected = digest.sha256(directory)
    (only,) = (tmp_path / "cache").rglob("digests/*")
    only.write_bytes(kept)
    assert digest.sha256(directory) == expected
    assert only.read_text() == expected


def test_without_a_cache_it_only_takes_longer(
    directory: Path, monkeypatch: pytest.MonkeyPatch, reads: list[str]
) -> None:
    expected = digest.sha256(directory)
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nowhere")
    assert digest.sha256(directory) == expected
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    assert digest.sha256(directory) == expected
    assert len(reads) == 9

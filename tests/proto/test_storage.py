import contextlib
import errno
import os
import resource
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.limits import HANG_S
from treni.errors import Code, TreniError
from treni.storage import (
    DISK_FULL,
    AppendOnlyFile,
    new_folder,
    storage_error,
    whole_lines,
    write_whole,
)


@contextlib.contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """The kernel takes no more into any file, a part of a write if need be; Python ignores SIGXFSZ."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("make", [lambda path: AppendOnlyFile.own(path, new=True), AppendOnlyFile.share])
def test_a_line_that_does_not_fit_is_not_there_at_all(
    tmp_path: Path, make: Callable[[Path], AppendOnlyFile]
) -> None:
    path = tmp_path / "log"
    with make(path) as file:
        file.append(b"one", durable=True)
        with files_of_at_most(10):
            with pytest.raises(TreniError) as caught:
                file.append(b"x" * 100)
            assert caught.value.kind == DISK_FULL
            assert caught.value.code is Code.RESOURCE_EXHAUSTED
            assert path.read_bytes() == b"one\n"
            file.append(b"three")
        file.append(b"x" * 100)
    assert path.read_bytes() == b"one\nthree\n" + b"x" * 100 + b"\n"


def test_a_write_that_the_kernel_takes_in_parts_is_written_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, bytes(data)[:3]))
    with AppendOnlyFile.share(tmp_path / "log") as file:
        file.append(b"0123456789")
    assert (tmp_path / "log").read_bytes() == b"0123456789\n"


@given(
    kept=st.lists(st.binary(max_size=9).map(lambda line: line.replace(b"\n", b"")), max_size=4),
    torn=st.binary(max_size=200_000).map(lambda line: line.replace(b"\n", b"")),
)
def test_what_a_killed_writer_left_is_cut_before_the_next_line(
    tmp_path_factory: pytest.TempPathFactory, kept: list[bytes], torn: bytes
) -> None:
    path = tmp_path_factory.mktemp("torn") / "log"
    whole = b"".join(line + b"\n" for line in kept)
    for make in (AppendOnlyFile.share, lambda path: AppendOnlyFile.own(path, new=False)):
        path.write_bytes(whole + torn)
        with make(path) as file:
            file.append(b"next")
        assert path.read_bytes() == whole + b"next\n"
        path.write_bytes(whole + torn)
        with make(path) as file:
            assert file.cut_torn() == len(torn)
        assert path.read_bytes() == whole
    assert whole_lines(whole + torn) == (kept, len(torn))


def test_a_line_torn_by_another_live_writer_is_cut_too(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with AppendOnlyFile.share(path) as file:
        file.append(b"one")
        with path.open("ab") as other:
            other.write(b"half a li")
        file.append(b"two")
    assert path.read_bytes() == b"one\ntwo\n"


_WRITER = """
import sys
from pathlib import Path
from treni.storage import AppendOnlyFile
with AppendOnlyFile.share(Path(sys.argv[1])) as file:
    for number in range(200):
        file.append((sys.argv[2] * 50 + str(number)).encode())
"""


def test_processes_and_threads_share_a_file_line_by_line(tmp_path: Path) -> None:
    path = tmp_path / "log"
    writers = [subprocess.Popen([sys.executable, "-c", _WRITER, str(path), name]) for name in "ab"]
    with AppendOnlyFile.share(path) as file:

        def write(name: str) -> None:
            for i in range(200):
                file.append(f"{name * 50}{i}".encode())

        threads = [threading.Thread(target=write, args=(name,)) for name in "cd"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [writer.wait(HANG_S) for writer in writers] == [0, 0]
    lines, torn = whole_lines(path.read_bytes())
    assert torn == 0
    assert sorted(lines) == sorted(f"{name * 50}{i}".encode() for name in "abcd" for i in range(200))


def test_an_owned_file_has_one_writer_and_is_made_once(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with AppendOnlyFile.own(path, new=True):
        for new, kind in ((True, "file_exists"), (False, "file_in_use")):
            with pytest.raises(TreniError) as caught:
                AppendOnlyFile.own(path, new=new)
            assert caught.value.kind == kind


def test_a_whole_write_replaces_or_leaves_alone(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for durable in (False, True):
        write_whole(path, b"old", durable=durable)
        with files_of_at_most(10), pytest.raises(TreniError) as caught:
            write_whole(path, b"x" * 100, durable=durable)
        assert caught.value.kind == DISK_FULL
        assert path.read_bytes() == b"old"
        assert os.listdir(tmp_path) == ["file"]


def test_a_new_folder_is_nobody_elses(tmp_path: Path) -> None:
    names = [new_folder(tmp_path / "out", "a").name for _ in range(3)]
    assert names == ["a", "a-2", "a-3"]
    (tmp_path / "file").touch()
    with pytest.raises(TreniError) as caught:
        new_folder(tmp_path / "file", "a")
    assert caught.value.code is Code.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("number", "code", "kind"),
    [
        (errno.ENOSPC, Code.RESOURCE_EXHAUSTED, DISK_FULL),
        (errno.EDQUOT, Code.RESOURCE_EXHAUSTED, DISK_FULL),
        (errno.EACCES, Code.INVALID_ARGUMENT, "path_unusable"),
        (errno.EROFS, Code.INVALID_ARGUMENT, "path_unusable"),
        (errno.EIO, Code.UNAVAILABLE, "file_failed"),
    ],
)
def test_each_refusal_of_the_system_has_its_code(number: int, code: Code, kind: str) -> None:
    error = storage_error(OSError(number, os.strerror(number), "some/path"), expected="it")
    assert (error.code, error.kind) == (code, kind)
    assert "some/path" in error.got

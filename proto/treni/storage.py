"""Files that are kept: what the system says about them in the words of our errors, whole writes, append-only lines."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import os
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from treni.errors import Code, TreniError, invalid_argument

DISK_FULL = "disk_full"
"""The kind of the error for what the disk did not take, whichever file it was."""

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_PLACE = frozenset(
    {
        errno.ENOENT,
        errno.ENOTDIR,
        errno.EISDIR,
        errno.EEXIST,
        errno.ELOOP,
        errno.ENAMETOOLONG,
        errno.EINVAL,
        errno.EACCES,
        errno.EPERM,
        errno.EROFS,
    }
)


def storage_error(error: OSError, *, expected: str) -> TreniError:
    """The error for what the system refused to do with a file.

    `disk_full` (RESOURCE_EXHAUSTED) where there was no room, `path_unusable` (INVALID_ARGUMENT) where the path cannot
    be used, else `file_failed` (UNAVAILABLE).
    """
    got = error.strerror or str(error)
    if error.filename is not None:
        got += f": {os.fsdecode(error.filename)!r}"
    if error.errno in _FULL:
        return TreniError(
            Code.RESOURCE_EXHAUSTED,
            DISK_FULL,
            expected=expected,
            got=got,
            todo="free disk space, or lift the limit, and go on",
        )
    if error.errno in _PLACE:
        return invalid_argument(
            "path_unusable", expected=expected, got=got, todo="correct the path or its permissions"
        )
    return TreniError(
        Code.UNAVAILABLE, "file_failed", expected=expected, got=got, todo="see what the system says of it"
    )


@contextlib.contextmanager
def reading(path: Path, what: str) -> Iterator[None]:
    """What the system refuses in the block becomes the error of a path that should be `what`, in a context manager."""
    try:
        yield
    except OSError as error:
        raise storage_error(error, expected=f"{what} that can be read at {_shown(path)}") from None
    except ValueError as error:  # a NUL in the path
        raise invalid_argument(
            "path_unusable", expected=what, got=f"{_shown(path)}: {error}", todo="correct the path"
        ) from None


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """What the system refuses in the block becomes the error of a file that should be written, in a context manager."""
    try:
        yield
    except OSError as error:
        raise storage_error(error, expected=f"{_shown(path)} to be written") from None
    except ValueError as error:
        raise invalid_argument(
            "path_unusable",
            expected="a file to be written",
            got=f"{_shown(path)}: {error}",
            todo="correct the path",
        ) from None


def _shown(path: Path) -> str:
    return str(path).encode("utf-8", "backslashreplace").decode()


def new_folder(parent: Path, name: str) -> Path:
    """A folder in `parent` that was not there before: `name`, or `name-2` and so on where that is taken.

    Raises as `storage_error` does.
    """
    with writing(parent / name):
        parent.mkdir(parents=True, exist_ok=True)
        for number in itertools.count(1):
            path = parent / (name if number == 1 else f"{name}-{number}")
            with contextlib.suppress(FileExistsError):
                path.mkdir()
                sync_folder(parent)
                return path
    raise AssertionError("there is always a next number")


def sync_folder(path: Path) -> None:
    """Makes the names in a folder durable, where its file system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_whole(path: Path, data: bytes, *, durable: bool = False) -> None:
    """Puts the bytes at `path` in one step: a reader sees the old file or the new one, never a part.

    With `durable` they outlive the machine too. Raises as `storage_error` does; the old file is then as it was.
    """
    fresh = path.with_name(f".{path.name}.tmp")
    try:
        with writing(path):
            with fresh.open("wb") as file:
                file.write(data)
                file.flush()
                if durable:
                    os.fsync(file.fileno())
            fresh.replace(path)
            if durable:
                sync_folder(path.parent)
    except BaseException:
        with contextlib.suppress(OSError):
            fresh.unlink()
        raise


def refuse_unwritable(path: Path) -> None:
    """Raises as `storage_error` does if no file could be written at `path`; leaves none there."""
    with writing(path):
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        with tempfile.TemporaryFile(dir=path.parent):
            pass


class AppendOnlyFile:
    """A file of lines that only grows: a line is in it whole, or not at all, whatever becomes of writer and disk.

    What a writer that was killed left of a line is cut off before the next one is written. `AppendOnlyFile.own` is for
    a file that no other process writes, `AppendOnlyFile.share` for one that several do.
    """

    def __init__(self, descriptor: int, path: Path, *, shared: bool) -> None:
        self._descriptor = descriptor
        self._path = path
        self._shared = shared
        self._threads = threading.Lock()

    @classmethod
    def own(cls, path: Path, *, new: bool) -> Self:
        """The file at `path` for this process alone, `new` or an old one.

        Raises ALREADY_EXISTS (`file_exists`), FAILED_PRECONDITION (`file_in_use`) while another process owns it, and as
        `storage_error` does.
        """
        flags = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | (os.O_CREAT | os.O_EXCL if new else 0)
        with writing(path):
            try:
                descriptor = os.open(path, flags, 0o644)
            except FileExistsError:
                raise TreniError(
                    Code.ALREADY_EXISTS,
                    "file_exists",
                    expected=f"no file at {path}",
                    got="one",
                    todo="go on with it, or choose another folder",
                ) from None
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                os.close(descriptor)
                if not isinstance(error, BlockingIOError):
                    raise
                raise TreniError(
                    Code.FAILED_PRECONDITION,
                    "file_in_use",
                    expected=f"{path} to be written by no other process",
                    got="one that writes it",
                    todo="let the other treni-route end first",
                ) from None
        if new:
            sync_folder(path.parent)
        return cls(descriptor, path, shared=False)

    @classmethod
    def share(cls, path: Path) -> Self:
        """The file at `path`, made where there is none; other processes may append to it too.

        Raises as `storage_error` does.
        """
        with writing(path):
            flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
            return cls(os.open(path, flags, 0o644), path, shared=True)

    def append(self, line: bytes, *, durable: bool = False) -> None:
        """Writes one line, given without its newline; it outlives the process, with `durable` the machine.

        Raises as `storage_error` does if the disk does not take it whole; the file then ends with the line before.
        """
        with self._writing(), writing(self._path):
            end = self._cut_torn()[0]
            try:
                self._write(line + b"\n")
                if durable:
                    os.fsync(self._descriptor)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.ftruncate(self._descriptor, end)
                raise

    def cut_torn(self) -> int:
        """How many bytes of a torn last line there were; they are cut off."""
        with self._writing(), writing(self._path):
            return self._cut_torn()[1]

    def sync(self) -> None:
        """Makes durable what was written. Raises as `storage_error` does."""
        with writing(self._path):
            os.fsync(self._descriptor)

    def close(self) -> None:
        """Lets the file go; once: by a second time the number may be another file's, or a connection's."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Where no other thread, and no other process that shares the file, writes."""
        with self._threads:
            if self._shared:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX)
            try:
                yield
            finally:
                if self._shared:
                    fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def _write(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:  # the kernel may take a part, and says why it took no more at the next call
            written = os.write(self._descriptor, rest)
            if written == 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            rest = rest[written:]

    def _cut_torn(self) -> tuple[int, int]:
        """Where the last whole line ends, and how many bytes after it were cut off."""
        size = os.fstat(self._descriptor).st_size
        end = size
        while end > 0:
            start = (
                max(0, end - _CHUNK) if end < size else end - 1
            )  # nearly always the newline is the last byte
            found = os.pread(self._descriptor, end - start, start).rfind(b"\n")
            if found >= 0:
                end = start + found + 1
                break
            end = start
        if end < size:
            os.ftruncate(self._descriptor, end)
        return end, size - end


_CHUNK = 65536


def whole_lines(data: bytes) -> tuple[list[bytes], int]:
    """The lines of an append-only file without their newlines, and how many bytes of a torn last line follow them."""
    *found, torn = data.split(b"\n")
    return found, len(torn)

"""Kernel files as machine code: compiled with NVRTC, which needs no GPU, and kept in a cache."""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from runtime_svc.backends.cuda import libraries
from treni.errors import Code, TreniError
from treni.packages import cache_folder

KERNELS = Path(__file__).parent / "kernels"
"""Where the `.cu` files and the `.cuh` headers that they share lie."""

ARCHITECTURE = "sm_90a"
"""Hopper with its own instructions: the one architecture that the kernels are written for."""

_log = logging.getLogger(__name__)

_NO_DEFINES: Mapping[str, int] = {}
_OPTIONS = ("--std=c++17", "--device-as-default-execution-space", "--ptxas-options=-v")
_INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.MULTILINE)
_USED = re.compile(r"Used (\d+) registers")
_FRAME = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
_ENTRY = re.compile(r"Compiling entry function '(\w+)'")


@dataclass(frozen=True, kw_only=True, slots=True)
class Usage:
    """What one kernel takes of a multiprocessor, by the assembler's report."""

    registers: int
    stack_bytes: int
    spill_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Cubin:
    """A compiled kernel file: its machine code, and each kernel's resources by name."""

    code: bytes
    usage: Mapping[str, Usage]


def cached(name: str, defines: Mapping[str, int] = _NO_DEFINES) -> Path:
    """The cubin of `kernels/<name>.cu` with these macros in the cache, compiled into it if it is not there.

    The key is everything that decides the machine code: the source with its headers, the architecture, the
    options and NVRTC's version. Raises FAILED_PRECONDITION "backend_unavailable" without NVRTC.
    """
    nvrtc = _Nvrtc()
    sources, options = _sources(name), _options(defines)
    digest = hashlib.sha256(str(nvrtc.version).encode())
    for part in (*options, *sources, *sources.values()):
        digest.update(b"\0" + part.encode())
    path = cache_folder() / "cubins" / f"{name}-{ARCHITECTURE}-{digest.hexdigest()[:24]}.cubin"
    if not path.is_file():
        _log.info("compiling a kernel, once for this machine", extra={"kernel": name})
        code = nvrtc.compile(sources, options).code
        path.parent.mkdir(parents=True, exist_ok=True)
        # Written beside and renamed: another process never reads half a file.
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            file.write(code)
        os.replace(file.name, path)
    return path


def compiled(name: str, defines: Mapping[str, int] = _NO_DEFINES) -> Cubin:
    """`kernels/<name>.cu` compiled now, past the cache. Raises INTERNAL "kernel_broken" with the log."""
    # From NVRTC's own cache code comes without the assembler's report.
    return _Nvrtc().compile(_sources(name), (*_options(defines), "--no-cache"))


def _options(defines: Mapping[str, int]) -> tuple[str, ...]:
    macros = (f"-D{name}={value}" for name, value in sorted(defines.items()))
    return (f"--gpu-architecture={ARCHITECTURE}", *_OPTIONS, *macros)


def _sources(name: str) -> dict[str, str]:
    """The kernel file's text and that of every header it reaches, by file name; the kernel file first."""
    texts: dict[str, str] = {}
    wanted = [f"{name}.cu"]
    while wanted:
        file = wanted.pop()
        if file not in texts:
            texts[file] = (KERNELS / file).read_text(encoding="utf-8")
            wanted.extend(sorted(_INCLUDE.findall(texts[file])))
    return texts


class _Nvrtc:
    """NVIDIA's run-time compiler through its C interface."""

    def __init__(self) -> None:
        self._library = libraries.load("libnvrtc.so.13", needs=("libnvrtc-builtins.so.13.0",))

    @property
    def version(self) -> tuple[int, int]:
        """The toolkit's, such as (13, 0)."""
        major, minor = ctypes.c_int(), ctypes.c_int()
        self._check(self._library.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor)))
        return major.value, minor.value

    def compile(self, sources: Mapping[str, str], options: Sequence[str]) -> Cubin:
        (name, text), *headers = sources.items()
        program = ctypes.c_void_p()
        strings = ctypes.c_char_p * len(headers)
        self._check(
            self._library.nvrtcCreateProgram(
                ctypes.byref(program),
                text.encode(),
                name.encode(),
                len(headers),
                strings(*(content.encode() for _, content in headers)),
                strings(*(header.encode() for header, _ in headers)),
            )
        )
        try:
            arguments = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
            status = self._library.nvrtcCompileProgram(program, len(options), arguments)
            log = self._read(program, "ProgramLog").decode(errors="replace").rstrip("\0")
            if status != 0:
                raise TreniError(
                    Code.INTERNAL,
                    "kernel_broken",
                    expected=f"{name} to compile for {ARCHITECTURE}",
                    got=log,
                    todo="fix the kernel file",
                )
            return Cubin(code=self._read(program, "CUBIN"), usage=_usage(log))
        finally:
            self._library.nvrtcDestroyProgram(ctypes.byref(program))

    def _read(self, program: ctypes.c_void_p, what: str) -> bytes:
        size = ctypes.c_size_t()
        self._check(getattr(self._library, f"nvrtcGet{what}Size")(program, ctypes.byref(size)))
        buffer = ctypes.create_string_buffer(size.value)
        self._check(getattr(self._library, f"nvrtcGet{what}")(program, buffer))
        return buffer.raw

    def _check(self, status: int) -> None:
        if status != 0:
            self._library.nvrtcGetErrorString.restype = ctypes.c_char_p
            message = self._library.nvrtcGetErrorString(status).decode()
            raise libraries.unavailable("NVRTC to work", message, "reinstall nvidia-cuda-nvrtc")


def _usage(log: str) -> dict[str, Usage]:
    """The assembler names a kernel, then says what it takes."""
    _, *parts = _ENTRY.split(log)
    found: dict[str, Usage] = {}
    for kernel, report in zip(parts[::2], parts[1::2], strict=True):
        frame, used = _FRAME.search(report), _USED.search(report)
        if frame is None or used is None:
            raise ValueError(f"no resources of {kernel} in the compiler's log:\n{log}")
        stack, stores, loads = (int(n) for n in frame.groups())
        found[kernel] = Usage(registers=int(used[1]), stack_bytes=stack, spill_bytes=stores + loads)
    return found

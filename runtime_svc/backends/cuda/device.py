"""One CUDA device: memory, kernels by file and name, and captured graphs, all on one stream."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from runtime_svc.backends.cuda import cubins, libraries
from runtime_svc.backends.cuda.driver import Argument, Driver, TensorMap

Defines = tuple[tuple[str, int], ...]
"""Macros that a kernel file is compiled with, by name."""


class Lane(Protocol):
    """A host buffer with work of its own behind it: filled while other lanes' copies are under way.

    `host` is (size,) uint8, `staging` the address of as much device memory as was asked for. Leaving its context
    waits and gives both back.
    """

    host: np.ndarray[Any, np.dtype[np.uint8]]
    staging: int

    def __enter__(self) -> Lane: ...

    def __exit__(self, *_: object) -> None: ...

    def copy(self, target: int, offset: int, size: int) -> None:
        """Starts a copy of `size` bytes of the buffer to the device's address `target`."""

    def launch(
        self, file: str, kernel: str, blocks: int, threads: int, arguments: Sequence[Argument]
    ) -> None:
        """Starts a kernel after the lane's copies."""

    def wait(self) -> None:
        """Waits until what was started is done, and the buffer may be filled again."""


class Landing(Protocol):
    """Host memory, (size,) uint8, where results of the device arrive while later work goes on."""

    host: np.ndarray[Any, np.dtype[np.uint8]]

    def start(self, address: int, size: int) -> None:
        """Starts a copy of `size` bytes from there to the front of `host`, after everything before it is done."""

    def wait(self) -> None:
        """Waits until the copy that was started last is done."""


class Repeated(Protocol):
    """Work that always launches the same, which may be recorded to be replayed."""

    def run(self) -> None:
        """Starts the work once more."""

    def record(self) -> None:
        """Makes `run` as fast as it will be, without running it."""


class Device(Protocol):
    """What the steps of a model need of a device. Addresses are plain ints, work is done in order."""

    @property
    def multiprocessors(self) -> int:
        """How many blocks of a whole multiprocessor run at once."""

    def allocate(self, size: int) -> int:
        """The address of `size` zeroed bytes, 256-byte aligned, kept until `close`."""

    def host(self, size: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """Host memory, (size,) uint8, from which `send` copies without waiting."""

    def send(self, address: int, values: np.ndarray[Any, Any]) -> None:
        """Starts a copy of contiguous `host` memory to the device."""

    def lane(self, size: int, staging_size: int) -> Lane:
        """A buffer for copies beside the others, to be entered and used by one thread."""

    def synchronize(self) -> None:
        """Waits until all work is done, that of lanes aside."""

    def wait_sent(self) -> None:
        """Waits until the last `send` is done, and its source may be changed."""

    def upload(self, address: int, values: np.ndarray[Any, Any]) -> None:
        """Copies a contiguous array there; the array may be changed at once."""

    def zero(self, address: int, size: int) -> None:
        """Starts to set `size` bytes there to 0."""

    def landing(self, size: int) -> Landing:
        """Host memory of `size` bytes where results of the device arrive."""

    def download(self, address: int, values: np.ndarray[Any, Any]) -> None:
        """Fills a contiguous array from there, after everything before it is done."""

    def launch(
        self,
        file: str,
        kernel: str,
        blocks: tuple[int, int, int],
        threads: int,
        arguments: Sequence[Argument],
        shared_bytes: int = 0,
        *,
        pairs: bool = False,
        overlap: bool = False,
        together: bool = False,
        defines: Defines = (),
    ) -> None:
        """Starts a kernel of `kernels/<file>.cu`, compiled with the macros `defines`.

        `together`: all blocks run at once, or the launch is an error. `pairs`: each two blocks run on neighbouring
        multiprocessors and reach each other's shared memory. `overlap`: it may start while what was launched before
        still runs, and itself waits for that (`kernels/overlap.cuh`).
        """

    def tensor_map(self, address: int, rows: int, columns: int, box_rows: int) -> TensorMap:
        """The bf16 matrix (rows, columns) at `address`, to be read in boxes of `box_rows` by `driver.BOX_COLUMNS`."""

    def repeated(self, work: Callable[[], None]) -> Repeated:
        """The `work` as one that is done again and again, and always launches the same."""


class CudaDevice:
    """Implements `Device` with CuPy and CUDA's driver. Not thread-safe.

    Raises FAILED_PRECONDITION "backend_unavailable" without CuPy, without a GPU, or on one that is not a Hopper.
    """

    def __init__(self, ordinal: int = 0) -> None:
        self._cupy = _cupy()
        self._runtime = self._cupy.cuda.runtime
        self._ordinal = ordinal
        properties = _properties(self._cupy, ordinal)
        self.name: str = properties["name"].decode()
        self.multiprocessors: int = properties["multiProcessorCount"]
        self._cupy.cuda.Device(ordinal).use()
        self.stream: Any = self._cupy.cuda.Stream(non_blocking=True)
        self._modules: dict[tuple[str, Defines], Any] = {}
        self._kernels: dict[tuple[str, str, Defines], Any] = {}
        self._allowed: dict[tuple[str, str, Defines], int] = {}
        self._allocated: list[int] = []
        self._driver = Driver()
        self._sent: Any = self._cupy.cuda.Event(disable_timing=True)

    def __enter__(self) -> CudaDevice:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Waits for the device and gives all memory back."""
        self.synchronize()
        while self._allocated:
            self._runtime.free(self._allocated.pop())

    def lane(self, size: int, staging_size: int) -> CudaLane:
        """A lane of the GPU, as `Device` says."""
        return CudaLane(self, size, staging_size)

    def use(self) -> None:
        """Makes this the calling thread's device: each thread that copies or launches needs it once."""
        self._cupy.cuda.Device(self._ordinal).use()

    def allocate(self, size: int) -> int:
        """The address of new memory. Raises RESOURCE_EXHAUSTED "device_memory" when the device is full."""
        from treni.errors import Code, TreniError

        try:
            address: int = self._runtime.malloc(max(size, 256))
        except self._runtime.CUDARuntimeError as error:
            free, total = self._runtime.memGetInfo()
            raise TreniError(
                Code.RESOURCE_EXHAUSTED,
                "device_memory",
                expected=f"{size:,} bytes on {self.name}",
                got=f"{free:,} free of {total:,} ({error})",
                todo="use fewer or shorter slots, or a smaller model",
            ) from None
        self._allocated.append(address)
        self._runtime.memsetAsync(address, 0, max(size, 256), self.stream.ptr)
        return address

    def upload(self, address: int, values: np.ndarray[Any, Any]) -> None:
        """Copies from pageable memory: CUDA stages small arrays, and returns when it has read the array."""
        self._runtime.memcpyAsync(address, values.ctypes.data, values.nbytes, 1, self.stream.ptr)
        self.synchronize()

    def host(self, size: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """A page-locked buffer of `size` bytes on the host."""
        return pinned(size)

    def send(self, address: int, values: np.ndarray[Any, Any]) -> None:
        """Starts a copy to the device, as `Device` says."""
        self._runtime.memcpyAsync(address, values.ctypes.data, values.nbytes, 1, self.stream.ptr)
        self._sent.record(self.stream)

    def wait_sent(self) -> None:
        """Waits for the last `send`, as `Device` says."""
        self._sent.synchronize()

    def download(self, address: int, values: np.ndarray[Any, Any]) -> None:
        """Copies from the device, as `Device` says."""
        self._runtime.memcpyAsync(values.ctypes.data, address, values.nbytes, 2, self.stream.ptr)
        self.synchronize()

    def synchronize(self) -> None:
        """Waits until all work is done."""
        self.stream.synchronize()

    def zero(self, address: int, size: int) -> None:
        """Zeroes device memory, as `Device` says."""
        self._runtime.memsetAsync(address, 0, size, self.stream.ptr)

    def landing(self, size: int) -> CudaLanding:
        """A landing on this stream, as `Device` says."""
        return CudaLanding(self.stream, size)

    def load(self, file: str, defines: Defines = ()) -> None:
        """Compiles `kernels/<file>.cu` unless the cache has it, and loads it."""
        if (file, defines) not in self._modules:
            module = self._cupy.RawModule(path=str(cubins.cached(file, dict(defines))))
            _ = module.module  # CuPy loads it when it is first asked for something
            self._modules[file, defines] = module

    def launch(
        self,
        file: str,
        kernel: str,
        blocks: tuple[int, int, int],
        threads: int,
        arguments: Sequence[Argument],
        shared_bytes: int = 0,
        *,
        pairs: bool = False,
        overlap: bool = False,
        together: bool = False,
        defines: Defines = (),
    ) -> None:
        """Launches a kernel, as `Device` says."""
        function = self.function(file, kernel, shared_bytes, defines).ptr
        self._driver.launch(
            *(function, blocks, threads, arguments, shared_bytes, self.stream.ptr),
            pairs=pairs,
            overlap=overlap,
            together=together,
        )

    def tensor_map(self, address: int, rows: int, columns: int, box_rows: int) -> TensorMap:
        """The map of a bf16 matrix, as `Device` says."""
        return self._driver.tensor_map(address, rows, columns, box_rows)

    def function(self, file: str, kernel: str, shared_bytes: int = 0, defines: Defines = ()) -> Any:
        """CuPy's handle of a kernel, allowed at least that much dynamic shared memory."""
        key = file, kernel, defines
        if key not in self._kernels:
            self.load(file, defines)
            self._kernels[key] = self._modules[file, defines].get_function(kernel)
            self._allowed[key] = 48 * 1024
            self._driver.load(self._kernels[key].kernel.ptr)
        if shared_bytes > self._allowed[key]:
            self._kernels[key].max_dynamic_shared_size_bytes = self._allowed[key] = shared_bytes
        return self._kernels[key].kernel

    def repeated(self, work: Callable[[], None]) -> Recording:
        """The recording of `work`, as `Device` says."""
        return Recording(self.stream, work)


class Recording:
    """Implements `Repeated` by a CUDA graph, recorded at the second run if not before.

    The first run is not the one that pays for the recording: a process that has just started answers sooner.
    """

    def __init__(self, stream: Any, work: Callable[[], None]) -> None:
        self._stream = stream
        self._work = work
        self._has_run = False
        self._graph: Any = None

    def run(self) -> None:
        """Replays what was recorded, or does it where nothing was."""
        if self._has_run:
            self.record()
        self._has_run = True
        if self._graph is None:
            self._work()
        else:
            self._graph.launch(self._stream)

    def record(self) -> None:
        """Records the work, once."""
        if self._graph is not None:
            return
        self._stream.begin_capture()
        try:
            self._work()
        finally:
            graph = self._stream.end_capture()
        graph.upload(self._stream)
        self._graph = graph


class CudaLanding:
    """Implements `Landing`: pinned memory and an event."""

    def __init__(self, stream: Any, size: int) -> None:
        cuda = _cupy().cuda
        self._stream = stream
        self._runtime = cuda.runtime
        self._event = cuda.Event(disable_timing=True)
        self.host = pinned(size)

    def start(self, address: int, size: int) -> None:
        """Starts a copy to the host, as `Landing` says."""
        self._runtime.memcpyAsync(self.host.ctypes.data, address, size, 2, self._stream.ptr)
        self._event.record(self._stream)

    def wait(self) -> None:
        """Waits for the copy, as `Landing` says."""
        self._event.synchronize()


class CudaLane:
    """Implements `Lane`: pinned memory and a stream."""

    def __init__(self, device: CudaDevice, size: int, staging_size: int) -> None:
        device.use()
        self._device = device
        self._cuda = _cupy().cuda
        self._stream = self._cuda.Stream(non_blocking=True)
        self.host = pinned(size)
        self.staging: int = self._cuda.runtime.malloc(staging_size) if staging_size else 0

    def __enter__(self) -> CudaLane:
        return self

    def __exit__(self, *_: object) -> None:
        self.wait()
        if self.staging:
            self._cuda.runtime.free(self.staging)

    def copy(self, target: int, offset: int, size: int) -> None:
        """Starts a copy on the lane, as `Lane` says."""
        source = self.host.ctypes.data + offset
        self._cuda.runtime.memcpyAsync(target, source, size, 1, self._stream.ptr)

    def launch(
        self, file: str, kernel: str, blocks: int, threads: int, arguments: Sequence[Argument]
    ) -> None:
        """Starts a kernel on the lane, as `Lane` says."""
        self._device.function(file, kernel)((blocks, 1, 1), (threads, 1, 1), arguments, stream=self._stream)

    def wait(self) -> None:
        """Waits for the lane, as `Lane` says."""
        self._stream.synchronize()


def pinned(size: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Page-locked host memory, (size,) uint8, from and to which copies are asynchronous and fast."""
    memory = _cupy().cuda.alloc_pinned_memory(size)
    return np.frombuffer(memory, np.uint8, size)


def _cupy() -> Any:
    try:
        import cupy
    except ImportError as error:
        raise libraries.unavailable(
            "CuPy", str(error), "install treni-route[cupy] or use --backend numpy"
        ) from None
    return cupy


def _properties(cupy: Any, ordinal: int) -> dict[str, Any]:
    try:
        properties: dict[str, Any] = cupy.cuda.runtime.getDeviceProperties(ordinal)
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise libraries.unavailable("an NVIDIA GPU", str(error), "use --backend numpy") from None
    major, minor = properties["major"], properties["minor"]
    if (major, minor) != (9, 0):
        got = f"{properties['name'].decode()} with {major}.{minor}"
        raise libraries.unavailable(
            "a GPU of compute capability 9.0 (Hopper)", got, "use another GPU, or --backend numpy"
        )
    return properties

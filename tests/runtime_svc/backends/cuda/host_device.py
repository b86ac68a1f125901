"""The kernels' CPU build behind `cuda.device.Device`."""

import ctypes
import math
import threading

import numpy as np

from runtime_svc.backends.cuda.driver import TensorMap
from runtime_svc.backends.cuda.shim.build import KERNELS, Library

GUARD, FENCE = 256, 0xA5


class HostDevice:
    multiprocessors = 2

    def __init__(self, directory):
        self.directory = directory
        self._libraries = {}
        self._memory = []
        self._one_launch = threading.Lock()
        self._schedule = 0

    def allocate(self, size):
        block = np.zeros(size + 3 * GUARD, np.uint8)
        start = -(-(block.ctypes.data + GUARD) // GUARD) * GUARD - block.ctypes.data
        block[:start] = block[start + size :] = FENCE
        self._memory.append((block, start, size))
        return block.ctypes.data + start

    def release(self):
        """Frees everything. Fails when something wrote before or after what it was given."""
        memory, self._memory = self._memory, []
        for block, start, size in memory:
            assert (block[:start] == FENCE).all(), f"written before an allocation of {size} bytes"
            assert (block[start + size :] == FENCE).all(), f"written after an allocation of {size} bytes"

    def view(self, address, shape, dtype):
        """The device's memory itself."""
        count = math.prod(shape)
        pointer = np.ctypeslib.as_array(
            (ctypes.c_uint8 * (count * np.dtype(dtype).itemsize)).from_address(address)
        )
        return pointer.view(dtype).reshape(shape)

    def host(self, size):
        return np.zeros(size, np.uint8)

    def send(self, address, values):
        self.upload(address, values)

    def wait_sent(self):
        pass

    def synchronize(self):
        pass

    def lane(self, size, staging_size):
        return HostLane(self, size, staging_size)

    def upload(self, address, values):
        self.view(address, (values.nbytes,), np.uint8)[:] = values.reshape(-1).view(np.uint8)

    def download(self, address, values):
        values[...] = self.view(address, values.shape, values.dtype)

    def tensor_map(self, address, rows, columns, box_rows):
        """As `tensor.cuh` reads it under TRENI_SHIM."""
        numbers = np.array([address, rows, columns, columns, box_rows, *[0] * 11], np.int64)
        return TensorMap(words=numbers.tobytes())

    def zero(self, address, size):
        self.view(address, (size,), np.uint8)[:] = 0

    def landing(self, size):
        return HostLanding(self, size)

    def launch(
        self,
        file,
        kernel,
        blocks,
        threads,
        arguments,
        shared_bytes=0,
        *,
        pairs=False,
        overlap=False,
        together=False,
        defines=(),
    ):
        if (file, defines) not in self._libraries:
            library = Library(KERNELS / f"{file}.cu", dict(defines), self.directory)
            self._libraries[file, defines] = library
        with self._one_launch:
            # Warps in another random order each time, which finds barriers that are missing.
            self._schedule += 1
            self._libraries[file, defines].launch(
                kernel,
                blocks,
                (threads,),
                [_ctype(a) for a in arguments],
                shared_bytes=shared_bytes,
                resident=pairs or together,
                schedule=self._schedule,
            )

    def repeated(self, work):
        return HostRepeated(work)


class HostRepeated:
    def __init__(self, work):
        self.run = work

    def record(self):
        pass


class HostLanding:
    """All work is done when it is launched, so a copy is too."""

    def __init__(self, device, size):
        self._device = device
        self.host = np.zeros(size, np.uint8)

    def start(self, address, size):
        self._device.download(address, self.host[:size])

    def wait(self):
        pass


class HostLane:
    def __init__(self, device, size, staging_size):
        self._device = device
        self.host = np.zeros(size, np.uint8)
        self.staging = device.allocate(staging_size)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def copy(self, target, offset, size):
        self._device.upload(target, self.host[offset : offset + size])

    def launch(self, file, kernel, blocks, threads, arguments):
        self._device.launch(file, kernel, (blocks, 1, 1), threads, arguments)

    def wait(self):
        pass


def _ctype(value):
    if isinstance(value, ctypes.Structure):
        return value
    if isinstance(value, TensorMap):
        return (ctypes.c_int64 * 16).from_buffer_copy(value.words)
    if isinstance(value, int):
        return ctypes.c_void_p(value)
    return np.ctypeslib.as_ctypes_type(value.dtype)(value)

"""The kernels' CPU build behind `cuda.device.Device`, with NumPy for the one library call."""

import ctypes
import math
import threading

import numpy as np

from runtime_svc.cuda.device import Product
from runtime_svc.cuda.shim.build import KERNELS, Library
from tests.runtime_svc.cuda.arrays import narrowed, widened


class HostDevice:
    multiprocessors = 2

    def __init__(self, directory):
        self._directory = directory
        self._libraries = {}
        self._memory = []
        self._one_launch = threading.Lock()

    def allocate(self, size):
        block = np.zeros(max(size, 256) + 256, np.uint8)
        self._memory.append(block)
        return -(-block.ctypes.data // 256) * 256

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

    def launch(self, file, kernel, blocks, threads, arguments, shared_bytes=0):
        if file not in self._libraries:
            self._libraries[file] = Library(KERNELS / f"{file}.cu", {}, self._directory)
        with self._one_launch:
            self._libraries[file].launch(
                kernel, blocks, (threads,), [_ctype(a) for a in arguments], shared_bytes=shared_bytes
            )

    def multiply(self, x, weight, out, rows, outputs, inputs, *, into):
        left = widened(self.view(x, (rows, inputs), np.uint16))
        right = widened(self.view(weight, (outputs, inputs), np.uint16))
        product = left @ right.T
        if into is Product.BF16:
            self.view(out, (rows, outputs), np.uint16)[:] = narrowed(product)
        elif into is Product.FLOAT:
            self.view(out, (rows, outputs), np.float32)[:] = product
        else:
            self.view(out, (rows, outputs), np.float32)[:] += product

    def repeated(self, work):
        return work


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
    if isinstance(value, int):
        return ctypes.c_void_p(value)
    return np.ctypeslib.as_ctypes_type(value.dtype)(value)

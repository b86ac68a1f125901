"""The kernels' CPU build behind `cuda.device.Device`."""

import ctypes
import math
import threading
from dataclasses import dataclass

import numpy as np

from runtime_svc.backends.cuda import decode_layout as layout
from runtime_svc.backends.cuda.decode import _layer_table
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

    def launch(self, file, kernel, blocks, threads, arguments, shared_bytes=0, *, pairs=False, overlap=False):
        if file not in self._libraries:
            self._libraries[file] = Library(KERNELS / f"{file}.cu", {}, self.directory)
        with self._one_launch:
            # Warps in another random order each time, which finds barriers that are missing.
            self._schedule += 1
            self._libraries[file].launch(
                kernel,
                blocks,
                (threads,),
                [_ctype(a) for a in arguments],
                shared_bytes=shared_bytes,
                resident=pairs,
                schedule=self._schedule,
            )

    def repeated(self, work):
        return HostRepeated(work)


class HostRepeated:
    def __init__(self, work):
        self.run = work

    def record(self):
        pass


class HostSteps:
    """The decode kernel's CPU build, as `cuda.decode.Decode` sets it up: two blocks, all steps done at launch."""

    BLOCKS, SHARED_BYTES = 2, layout.SHARED_BYTES

    def __init__(self, device, config, loaded, cache, turned):
        self._shape = shape = layout.DecodeShape.of(config)
        macros = {**shape.defines, "SHARED_BYTES": self.SHARED_BYTES}
        self._steps = [
            Library(KERNELS / "decode.cu", {**macros, "SINGLE": single}, device.directory)
            for single in (0, 1)
        ]
        self._sampler = Library(KERNELS / "sample.cu", {}, device.directory)
        self._device = device
        self._results = device.allocate(layout.MAX_ROWS * ctypes.sizeof(layout.RowResult))
        self._arguments = layout.StepArguments(
            layers=_layer_table(device, loaded),
            embedding=loaded.address + loaded.layout.embedding,
            head=loaded.address + loaded.layout.head,
            final_gain=loaded.address + loaded.layout.final_gain,
            rope=turned,
            cache=cache.address,
            exchange=device.allocate(8 * shape.exchange_words(self.BLOCKS)),
            logits=device.allocate(layout.MAX_ROWS * config.vocabulary * 4),
            last_token=device.allocate(cache.slots * 4),
            results=self._results,
            layer_count=config.layers,
            vocabulary=config.vocabulary,
            capacity=cache.capacity,
            slots=cache.slots,
            eps=config.norm_eps,
            whole=shape.whole_tiles(config.vocabulary, self.BLOCKS),
        )

    def draw(self, row, logits, result):
        arguments = layout.StepArguments.from_buffer_copy(self._arguments)
        arguments.logits, arguments.results, arguments.rows = logits, result, 1
        arguments.row = layout.row_controls(self._shape, [row], self.BLOCKS)
        self._sample(arguments)

    def _sample(self, arguments):
        self._sampler.launch(
            "sample_rows",
            (arguments.rows,),
            (layout.SAMPLE_THREADS,),
            [arguments],
            shared_bytes=layout.SAMPLE_SHARED_BYTES,
        )

    def launch(self, rows):
        if layout.next_launch(self._arguments, len(rows)):
            self._device.view(self._arguments.exchange, (self._shape.phased_words,), np.uint64)[:] = 0
        self._arguments.row = layout.row_controls(self._shape, rows, self.BLOCKS)
        self._steps[len(rows) == 1].launch(
            "decode_step",
            (self.BLOCKS,),
            (layout.THREADS,),
            [self._arguments],
            shared_bytes=self.SHARED_BYTES,
            resident=True,
        )
        self._sample(self._arguments)
        results = (layout.RowResult * len(rows)).from_address(self._results)
        return Done([result.sampled() for result in results])


@dataclass(frozen=True)
class Done:
    tokens: list

    def wait(self):
        return self.tokens


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
    if isinstance(value, TensorMap):
        return (ctypes.c_int64 * 16).from_buffer_copy(value.words)
    if isinstance(value, int):
        return ctypes.c_void_p(value)
    return np.ctypeslib.as_ctypes_type(value.dtype)(value)

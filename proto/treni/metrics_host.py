"""The machine and its GPUs on a process's page of metrics: read when somebody asks for the page, and never else."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import psutil
from prometheus_client import ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from treni.metrics import PREFIX, Page

_CPU_MODES = ("user", "system", "idle", "iowait", "steal")


def add_machine(page: Page) -> None:
    """Adds the machine's state, that of its GPUs where NVML is there, and the process's own `process_*` metrics."""
    page.part(_Machine)
    page.part(_Gpus)
    page.part(_process)


def _process(page: Page) -> ProcessCollector:
    return ProcessCollector(registry=page.registry)


class _Machine(Collector):
    """Processor time, load and memory of the machine."""

    def __init__(self, page: Page) -> None:
        self._cpu = _described(
            page, "host_cpu_seconds_total", "counter", "Processor time of the machine.", "mode"
        )
        self._processors = _described(page, "host_processors", "gauge", "Processors there are.")
        self._load = _described(page, "host_load1", "gauge", "Processes that ran or waited, over a minute.")
        self._memory = _described(
            page, "host_memory_bytes", "gauge", "Memory of the machine, in all and available.", "state"
        )
        page.registry.register(self)

    def describe(self) -> Iterator[Metric]:
        """Nothing: what it gives is not looked at before somebody scrapes."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """The machine as it is now."""
        times = psutil.cpu_times()
        cpu = CounterMetricFamily(*self._cpu, labels=["mode"])
        for mode in _CPU_MODES:
            cpu.add_metric([mode], getattr(times, mode, 0.0))
        yield cpu
        yield GaugeMetricFamily(*self._processors, value=os.cpu_count() or 1)
        yield GaugeMetricFamily(*self._load, value=os.getloadavg()[0])
        found = psutil.virtual_memory()
        memory = GaugeMetricFamily(*self._memory, labels=["state"])
        memory.add_metric(["total"], found.total)
        memory.add_metric(["available"], found.available)
        yield memory


class _Gpus(Collector):
    """Memory, power and use of each GPU, where the machine has one and `nvidia-ml-py` is installed."""

    def __init__(self, page: Page) -> None:
        self._memory = _described(
            page, "host_gpu_memory_bytes", "gauge", "Memory of a GPU, in all and used.", "gpu", "state"
        )
        self._power = _described(page, "host_gpu_power_watts", "gauge", "What a GPU draws.", "gpu")
        self._use = _described(
            page, "host_gpu_utilization_ratio", "gauge", "Share of time in which a GPU ran a kernel.", "gpu"
        )
        self._nvml = _nvml()
        page.registry.register(self)

    def describe(self) -> Iterator[Metric]:
        """Nothing: what it gives is not looked at before somebody scrapes."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """The GPUs as they are now; a figure that a GPU does not tell is left out."""
        nvml = self._nvml
        if nvml is None:
            return
        memory = GaugeMetricFamily(*self._memory, labels=["gpu", "state"])
        power = GaugeMetricFamily(*self._power, labels=["gpu"])
        use = GaugeMetricFamily(*self._use, labels=["gpu"])
        for number in range(nvml.nvmlDeviceGetCount()):
            gpu, one = str(number), nvml.nvmlDeviceGetHandleByIndex(number)
            with suppress(nvml.NVMLError):
                found = nvml.nvmlDeviceGetMemoryInfo(one)
                memory.add_metric([gpu, "total"], found.total)
                memory.add_metric([gpu, "used"], found.used)
            with suppress(nvml.NVMLError):
                power.add_metric([gpu], nvml.nvmlDeviceGetPowerUsage(one) / 1e3)
            with suppress(nvml.NVMLError):
                use.add_metric([gpu], nvml.nvmlDeviceGetUtilizationRates(one).gpu / 100)
        yield from (memory, power, use)


def _described(page: Page, name: str, kind: str, text: str, *labels: str) -> tuple[str, str]:
    """The name and the text by which a family is made, once it is on the page's list."""
    page.describe(name, kind, labels, text)
    return PREFIX + name.removesuffix("_total"), text


def _nvml() -> Any:
    """NVIDIA's management library, ready; None where it or a GPU is missing."""
    try:
        import pynvml

        pynvml.nvmlInit()
    except ImportError:
        return None
    except pynvml.NVMLError:
        return None
    return pynvml

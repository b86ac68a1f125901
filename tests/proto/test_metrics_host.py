"""The machine and its GPUs on a page: with NVML, without it, and with a GPU that does not tell everything."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import pytest

from treni.metrics import Page
from treni.metrics_host import add_machine


class NVMLError(Exception):
    pass


def nvml(*, present: bool = True, power: bool = True) -> ModuleType:
    """A library as NVIDIA's binding has it, of a machine with two GPUs or without a driver."""
    module = ModuleType("pynvml")

    def init() -> None:
        if not present:
            raise NVMLError("no driver")

    def watts(gpu: int) -> int:
        if gpu == 1 and not power:
            raise NVMLError("not supported")
        return 120_500

    for name, value in {
        "NVMLError": NVMLError,
        "nvmlInit": init,
        "nvmlDeviceGetCount": lambda: 2,
        "nvmlDeviceGetHandleByIndex": lambda number: number,
        "nvmlDeviceGetMemoryInfo": lambda gpu: SimpleNamespace(total=100, used=40 + gpu),
        "nvmlDeviceGetPowerUsage": watts,
        "nvmlDeviceGetUtilizationRates": lambda gpu: SimpleNamespace(gpu=75),
    }.items():
        setattr(module, name, value)
    return module


def machine(monkeypatch: pytest.MonkeyPatch, library: ModuleType | None) -> Page:
    monkeypatch.setitem(sys.modules, "pynvml", library)  # None: it is not installed
    page = Page()
    add_machine(page)
    return page


def test_gpus_tell_bytes_watts_and_shares(monkeypatch: pytest.MonkeyPatch) -> None:
    value = machine(monkeypatch, nvml()).registry.get_sample_value
    assert value("treni_host_gpu_memory_bytes", {"gpu": "1", "state": "used"}) == 41
    assert value("treni_host_gpu_memory_bytes", {"gpu": "0", "state": "total"}) == 100
    assert value("treni_host_gpu_power_watts", {"gpu": "0"}) == 120.5
    assert value("treni_host_gpu_utilization_ratio", {"gpu": "0"}) == 0.75


def test_a_figure_that_a_gpu_does_not_tell_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    value = machine(monkeypatch, nvml(power=False)).registry.get_sample_value
    assert value("treni_host_gpu_power_watts", {"gpu": "0"}) == 120.5
    assert value("treni_host_gpu_power_watts", {"gpu": "1"}) is None
    assert value("treni_host_gpu_memory_bytes", {"gpu": "1", "state": "used"}) == 41
    assert value("treni_host_gpu_utilization_ratio", {"gpu": "1"}) == 0.75


@pytest.mark.parametrize("library", [None, nvml(present=False)], ids=["not installed", "no driver"])
def test_without_a_gpu_there_is_none_and_the_machine_all_the_same(
    monkeypatch: pytest.MonkeyPatch, library: ModuleType | None
) -> None:
    page = machine(monkeypatch, library)
    assert b"treni_host_gpu" not in page.text()
    value = page.registry.get_sample_value
    assert (value("treni_host_processors") or 0) >= 1
    assert (value("treni_host_memory_bytes", {"state": "total"}) or 0) > 0
    assert (value("treni_host_cpu_seconds_total", {"mode": "user"}) or 0) > 0
    assert (value("process_resident_memory_bytes") or 0) > 0


def test_adding_the_machine_twice_changes_nothing() -> None:
    page = Page()
    add_machine(page)
    add_machine(page)
    assert page.text().count(b"# HELP treni_host_processors ") == 1

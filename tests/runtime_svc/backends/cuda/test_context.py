"""CUDA's context is begun first, whatever comes of it; the driver here is a library that writes down its calls."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from runtime_svc.backends.cuda.shim.compiler import compiler

DRIVER = r"""
#include <stdio.h>
#include <stdlib.h>
static int told(const char* what, int status) {
  FILE* file = fopen(getenv("TRENI_DRIVER_CALLS"), "a");
  fprintf(file, "%s\n", what);
  fclose(file);
  return status;
}
int cuInit(unsigned flags) { return told("cuInit", atoi(getenv("TRENI_DRIVER_STATUS"))); }
int cuDeviceGet(int* device, int ordinal) { return *device = ordinal + 7, told("cuDeviceGet", 0); }
int cuDevicePrimaryCtxRetain(void** context, int device) {
  return told(device == 7 ? "cuDevicePrimaryCtxRetain" : "another device", 0);
}
"""
BEGIN_TWICE = """
import sys
from runtime_svc.backends.cuda import context
assert "numpy" not in sys.modules
assert context.begin() is context.begin()
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("driver")
    (folder / "driver.c").write_text(DRIVER)
    command = [*compiler(), "-x", "c", "-shared", "-fPIC", "driver.c", "-o", "libcuda.so.1"]
    subprocess.run(command, cwd=folder, check=True)
    return folder


def calls(folder: Path, tmp_path: Path, arguments: list[str], status: int) -> tuple[list[str], int, str]:
    """What the process asked of the driver, in order; its exit status, and its stderr."""
    told = tmp_path / "calls"
    environment = os.environ | {
        "LD_LIBRARY_PATH": str(folder),
        "TRENI_DRIVER_CALLS": str(told),
        "TRENI_DRIVER_STATUS": str(status),
    }
    done = subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True)
    return told.read_text().split() if told.exists() else [], done.returncode, done.stderr


def test_once_and_to_the_end(folder: Path, tmp_path: Path) -> None:
    found, exit_status, stderr = calls(folder, tmp_path, ["-c", BEGIN_TWICE], 0)
    assert (exit_status, stderr) == (0, "")
    assert found == ["cuInit", "cuDeviceGet", "cuDevicePrimaryCtxRetain"]


def test_without_a_device_it_is_left(folder: Path, tmp_path: Path) -> None:
    found, exit_status, stderr = calls(folder, tmp_path, ["-c", BEGIN_TWICE], 100)
    assert (found, exit_status, stderr) == (["cuInit"], 0, "")


@pytest.mark.parametrize(("backend", "begun"), [("--backend=cupy", True), ("--backend=numpy", False)])
def test_the_runtime_begins_it_for_a_gpu_only(
    folder: Path, tmp_path: Path, backend: str, begun: bool
) -> None:
    arguments = ["-m", "runtime_svc", "--model", str(tmp_path / "nothing"), backend]
    found, exit_status, stderr = calls(folder, tmp_path, arguments, 0)
    assert exit_status == 1
    assert "nothing" in stderr
    assert ("cuInit" in found) == begun

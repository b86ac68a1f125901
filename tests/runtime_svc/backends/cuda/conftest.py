from collections.abc import Iterator

import pytest

from runtime_svc.backends.cuda.device import CudaDevice, Device
from tests.runtime_svc.backends.cuda.host_device import HostDevice


@pytest.fixture(scope="session")
def host_device(tmp_path_factory: pytest.TempPathFactory) -> HostDevice:
    """The kernels' CPU build."""
    return HostDevice(tmp_path_factory.mktemp("shim"))


@pytest.fixture(scope="session")
def gpu() -> Iterator[CudaDevice]:
    with CudaDevice() as device:
        yield device


@pytest.fixture(params=["shim", pytest.param("gpu", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> Iterator[Device]:
    """The same tests on both: the CPU build everywhere, the GPU where `-m gpu` asks for it."""
    if request.param == "gpu":
        yield request.getfixturevalue("gpu")
        return
    device: HostDevice = request.getfixturevalue("host_device")
    yield device
    device.release()

"""A GPU for every test of the tier, or the reason why there is none."""

import pytest

from deploy.runtime.device.cuda import Cuda
from toolchain.errors import DeviceError


@pytest.fixture(scope="session")
def cuda() -> Cuda:
    """A GPU that answers, or a skip that says why there is none."""
    try:
        found = Cuda()
        found.check_device()
    except DeviceError as error:
        pytest.skip(f"T4 not run: {str(error).partition(':')[0]}")
    return found

"""A TensorRT whose plan adds up each picture, on a FakeCuda: for the engine's logic, where no GPU can run a plan."""

import ctypes
from types import SimpleNamespace

import numpy as np

from deploy.runtime.engines.tensorrt_plan import Flavour, TensorRtLibrary
from tests.deploy.runtime.device.fakecuda import FakeCuda

SIDE = 4
FORMS = (1, 8, 32)
MODE = SimpleNamespace(INPUT=1, OUTPUT=2)


class FakeContext:
    def __init__(self, runtime: FakeCuda) -> None:
        self.runtime, self.addresses, self.batch, self.works = runtime, dict[str, int](), 0, True

    def set_input_shape(self, _name: str, shape: tuple[int, ...]) -> bool:
        self.batch = shape[0]
        return shape[0] in FORMS

    def set_tensor_address(self, name: str, address: int) -> bool:
        assert name not in self.addresses  # they never change
        self.addresses[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        def work() -> None:
            count = self.batch * SIDE
            pictures = np.ctypeslib.as_array((ctypes.c_uint8 * count).from_address(self.addresses["image"]))
            logits = np.ctypeslib.as_array((ctypes.c_float * self.batch).from_address(self.addresses["logits"]))
            logits[:] = pictures.reshape(self.batch, SIDE).sum(1)

        self.runtime.enqueue(stream, work)
        return self.works


class FakeCache:
    def __init__(self) -> None:
        self.taken = b""

    def deserialize(self, content: bytes) -> bool:
        self.taken = content
        return True

    def serialize(self) -> bytes:
        return self.taken + b"+"


class FakeConfig:
    cuda_graph_strategy: object = None

    def __init__(self) -> None:
        self.cache: FakeCache | None = None

    def create_runtime_cache(self) -> FakeCache:
        return FakeCache()

    def set_runtime_cache(self, cache: FakeCache) -> None:
        self.cache = cache


class FakePlan:
    """image uint8 [N, 4] in, logits float32 [N, 1] out."""

    num_io_tensors = 2

    def __init__(self, runtime: FakeCuda) -> None:
        self.runtime, self.contexts, self.config = runtime, list[FakeContext](), FakeConfig()

    def create_runtime_config(self) -> FakeConfig:
        return self.config

    def create_execution_context(self, config: FakeConfig) -> FakeContext:
        assert config is self.config
        self.contexts.append(FakeContext(self.runtime))
        return self.contexts[-1]

    def get_tensor_name(self, place: int) -> str:
        return ("image", "logits")[place]

    def get_tensor_mode(self, name: str) -> int:
        return MODE.INPUT if name == "image" else MODE.OUTPUT

    def get_tensor_dtype(self, name: str) -> type:
        return np.uint8 if name == "image" else np.float32

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (-1, SIDE) if name == "image" else (-1, 1)

    def get_tensor_profile_shape(self, _name: str, _profile: int) -> list[tuple[int, ...]]:
        return [(form, SIDE) for form in FORMS]


def fake_library(flavour: Flavour) -> TensorRtLibrary:
    module = SimpleNamespace(
        __version__="9.9",
        TensorIOMode=MODE,
        CudaGraphStrategy=SimpleNamespace(WHOLE_GRAPH_CAPTURE="whole"),
        nptype=lambda kind: kind,
    )
    return TensorRtLibrary(flavour, module)

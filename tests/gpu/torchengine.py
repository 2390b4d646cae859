"""An engine on a GPU that is none of TensorRT's: two matrices by PyTorch, on the stream and in the memory that cuda.py
gives. What cuda.py does is thereby shown on any GPU.

Every tensor has its place beforehand (`out=`): while a stream is captured nothing may be allocated.
"""

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch

from deploy.runtime.device.cuda import Cuda, GpuTiming, Lane
from toolchain.records.tensors import Array, Feeds, TensorSpec

SIDE, HIDDEN, CLASSES = 3072, 2048, 10


class _Memory:
    """CUDA Array Interface 3: memory that torch looks at and does not own."""

    def __init__(self, address: int, shape: tuple[int, ...], kind: str) -> None:
        self.__cuda_array_interface__ = {"data": (address, False), "shape": shape, "typestr": kind, "version": 3}


class TorchNet:
    """float32 [batch, 3072] -> [batch, 10]: linear, ReLU, linear. `weights` are as numpy's, to compare with."""

    def __init__(self, batch: int) -> None:
        random = np.random.default_rng(0)
        self.batch = batch
        self.weights = [
            random.normal(0, rows**-0.5, (rows, columns)).astype(np.float32)
            for rows, columns in ((SIDE, HIDDEN), (HIDDEN, CLASSES))
        ]
        torch.backends.cuda.matmul.allow_tf32 = False
        self._on_gpu = [torch.from_numpy(one).cuda() for one in self.weights]
        self._middle = torch.empty((batch, HIDDEN), device="cuda")
        self._seen: dict[int, torch.Tensor] = {}
        torch.cuda.synchronize()

    def launch(self, addresses: Mapping[str, int], stream: int) -> None:
        given = self._tensor(addresses["image"], (self.batch, SIDE))
        answer = self._tensor(addresses["logits"], (self.batch, CLASSES))
        with torch.cuda.stream(torch.cuda.ExternalStream(stream)):
            torch.mm(given, self._on_gpu[0], out=self._middle)
            self._middle.relu_()
            torch.mm(self._middle, self._on_gpu[1], out=answer)

    def expected(self, images: Array) -> Array:
        first, second = self.weights
        answer: Array = np.maximum(images @ first, 0) @ second
        return answer

    def _tensor(self, address: int, shape: tuple[int, ...]) -> torch.Tensor:
        if address not in self._seen:
            memory: Any = _Memory(address, shape, "<f4")
            self._seen[address] = torch.as_tensor(memory, device="cuda")
        return self._seen[address]


def lane(cuda: Cuda, net: TorchNet, captured: bool = True) -> Lane:
    inputs = [TensorSpec("image", "float32", (net.batch, SIDE))]
    outputs = [TensorSpec("logits", "float32", (net.batch, CLASSES))]
    return Lane(cuda, inputs, outputs, net.launch, captured)


class TorchEngine:
    """See Engine and GpuEngine: batches of one, one call at a time."""

    inputs = (TensorSpec("image", "float32", (None, SIDE)),)
    outputs = (TensorSpec("logits", "float32", (None, CLASSES)),)
    requests = 1
    batch_sizes = (1,)
    pads_batches = False

    def __init__(self, cuda: Cuda) -> None:
        self.net, self.bus, self.version = TorchNet(1), cuda.bus, f"torch {torch.__version__}"
        self._lane = lane(cuda, self.net)

    def infer(self, feeds: Feeds) -> dict[str, Array]:
        return {"logits": self._lane.infer([feeds["image"]])[0]}

    def measure(self, feeds: Feeds) -> GpuTiming:
        return self._lane.measure([feeds["image"]])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lane.__exit__(kind, error, trace)

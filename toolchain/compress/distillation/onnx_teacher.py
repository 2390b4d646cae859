"""A teacher given as an ONNX file: runs in ONNX Runtime on the CPU, wherever the student is trained.

Takes the same input as a torch model: normalized float32 [N, C, H, W]. Has no inner layers to learn from.
"""

from hashlib import sha256

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from toolchain.errors import RecipeError
from toolchain.models.onnx_file.interface import OnnxGraph
from toolchain.models.onnx_file.runner import arrange_input, open_session
from toolchain.records.tensors import Array


class OnnxTeacher(nn.Module):
    """A batch is padded to the graph's fixed batch size, if any. Smaller images (small_epochs) are enlarged to
    its fixed size. The file's digest is a buffer, so that weights_digest tells teachers apart. RecipeError for a graph
    that takes bytes."""

    digest: Tensor

    def __init__(self, source: OnnxGraph) -> None:
        super().__init__()
        if source.image.takes_bytes:
            raise RecipeError(
                f"teacher {source.path.name} takes bytes, and a teacher sees normalized images; export it without its "
                "preprocessing"
            )
        self.source, self.session = source, open_session(source)
        digest = sha256(source.path.read_bytes()).digest()
        self.register_buffer("digest", torch.frombuffer(bytearray(digest), dtype=torch.uint8))

    def forward(self, images: Tensor) -> Tensor:
        """Logits float32 [N, classes] on the device of `images`."""
        fixed = self.source.image.size
        if fixed is not None and tuple(images.shape[2:]) != fixed:
            images = functional.interpolate(images, fixed, mode="bilinear", align_corners=False)
        batch = images.detach().float().cpu().numpy().transpose(0, 2, 3, 1)
        size = self.source.image.batch or len(batch)
        answers = [self._run(batch[at : at + size], size) for at in range(0, len(batch), size)]
        return torch.from_numpy(np.concatenate(answers)).to(images.device)

    def _run(self, batch: Array, size: int) -> Array:
        """Pad the batch to a fixed size, and drop the padding's outputs."""
        missing = size - len(batch)
        padded = np.pad(batch, ((0, missing), (0, 0), (0, 0), (0, 0)))
        feeds = {self.source.image.name: arrange_input(self.source.image, padded)}
        (logits,) = self.session.run([self.source.output.name], feeds)
        return np.asarray(logits, np.float32).reshape(size, -1)[: size - missing]

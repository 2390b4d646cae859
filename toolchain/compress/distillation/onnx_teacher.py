"""A teacher given as an ONNX file: runs in ONNX Runtime on the CPU, wherever the student is trained.

Takes the same input as a torch model: normalized float32 [N, C, H, W]. Has no inner layers to learn from.
"""

from hashlib import sha256
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn
from torch.nn import functional

from toolchain.errors import RecipeError
from toolchain.records.tensors import Array, Preprocessing


class OnnxTeacher(nn.Module):
    """batch: the graph's fixed batch size, None when dynamic; size: its fixed height and width, None when dynamic.
    Smaller images (small_epochs) are enlarged to a fixed size. The file's digest is a buffer, so that weights_digest
    tells teachers apart."""

    digest: Tensor

    def __init__(self, path: Path, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.path = path
        self.session = _open_session(path)
        self.input, axes = _check_input(self.session, path, preprocessing)
        self.batch = axes[0]
        self.size = (axes[2], axes[3]) if axes[2] is not None and axes[3] is not None else None
        digest = sha256(path.read_bytes()).digest()
        self.register_buffer("digest", torch.frombuffer(bytearray(digest), dtype=torch.uint8))

    def forward(self, images: Tensor) -> Tensor:
        """Logits float32 [N, classes] on the device of `images`."""
        if self.size is not None and tuple(images.shape[2:]) != self.size:
            images = functional.interpolate(images, self.size, mode="bilinear", align_corners=False)
        batch = images.detach().float().cpu().contiguous().numpy()
        size = self.batch or len(batch)
        answers = [self._run(batch[at : at + size], size) for at in range(0, len(batch), size)]
        return torch.from_numpy(np.concatenate(answers)).to(images.device)

    def _run(self, batch: Array, size: int) -> Array:
        """Pad the batch to a fixed size, and drop the padding's outputs."""
        missing = size - len(batch)
        if missing:
            batch = np.concatenate([batch, np.zeros((missing, *batch.shape[1:]), np.float32)])
        logits = np.asarray(self.session.run(None, {self.input: batch})[0], np.float32)
        return logits[: size - missing]


def _open_session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exception classes are created at run time
        first = (str(error).splitlines() or [""])[0]
        raise RecipeError(f"teacher {path.name}: ONNX Runtime cannot load it: {first}; export it again") from error


def _check_input(
    session: onnxruntime.InferenceSession, path: Path, preprocessing: Preprocessing
) -> tuple[str, tuple[int | None, ...]]:
    """The input's name and axes (None: dynamic); RecipeError when images of [input] do not fit it."""
    inputs = session.get_inputs()
    height, width, channels = preprocessing.shape
    wanted = (channels, height, width)
    axes = tuple(axis if isinstance(axis, int) and axis > 0 else None for axis in inputs[0].shape)
    fits = len(axes) == 4 and all(have in (None, want) for have, want in zip(axes[1:], wanted, strict=True))
    if len(inputs) != 1 or inputs[0].type != "tensor(float)" or not fits:
        described = ", ".join(f"{value.name} {value.type} {value.shape}" for value in inputs)
        raise RecipeError(
            f"teacher {path.name} takes {described}; expected one input, normalized float32 [N, {channels}, {height}, "
            f"{width}] (export it without its preprocessing)"
        )
    return inputs[0].name, axes

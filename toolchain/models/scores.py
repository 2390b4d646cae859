"""A loaded model's answers to inputs that others preprocessed: by torch, or by ONNX Runtime on the file as it came."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from toolchain.models.eval_mode import device_of, evaluation_mode
from toolchain.models.load import LoadedModel
from toolchain.models.onnx_file.runner import scores_of_inputs

BATCH = 32
Scores = NDArray[np.float32]


def model_scores(model: LoadedModel, values: Scores) -> Scores:
    """float32 [N, outputs] for float32 [N, C, H, W]."""
    if model.onnx is not None:
        return scores_of_inputs(model.onnx, np.ascontiguousarray(values.transpose(0, 2, 3, 1)))
    return _torch_scores(model.require_module(), values)


def _torch_scores(module: nn.Module, values: Scores) -> Scores:
    device = device_of(module)
    with evaluation_mode(module), torch.inference_mode():
        chunks = (torch.from_numpy(values[at : at + BATCH]).to(device) for at in range(0, len(values), BATCH))
        return np.concatenate([module(chunk).float().cpu().numpy() for chunk in chunks])

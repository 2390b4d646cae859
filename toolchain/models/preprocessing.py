"""The part of preprocessing that is in the graph: uint8 NHWC -> channel order -> (x / 255 - mean) / std -> NCHW.

One meaning for training, for the exported graph and for the eager baseline. Knows nothing of decoding, resizing and
cropping: what comes in has its final size.
"""

import torch
from torch import Tensor, nn

from toolchain.records.tensors import Preprocessing

ChannelConstants = tuple[tuple[float, ...], tuple[float, ...]]


def offset_and_scale(preprocessing: Preprocessing) -> ChannelConstants:
    """For each channel what is subtracted from a byte and what the rest is multiplied by: 255 mean, 1 / (255 std)."""
    channels = preprocessing.channels
    mean, std = (values * (channels // len(values)) for values in (preprocessing.mean, preprocessing.std))
    return tuple(255 * value for value in mean), tuple(1 / (255 * value) for value in std)


def normalize_images(images: Tensor, preprocessing: Preprocessing) -> Tensor:
    """uint8 [N, H, W, C] -> float32 [N, C, H, W], as the network takes it."""
    return PreprocessedModel(nn.Identity(), preprocessing).to(images.device).forward(images)


class PreprocessedModel(nn.Module):
    """A network with its preprocessing before it: uint8 [N, H, W, C] in, what the network answers out."""

    def __init__(self, module: nn.Module, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.module, self.bgr = module, preprocessing.order == "bgr"
        offset, scale = offset_and_scale(preprocessing)
        self.register_buffer("offset", torch.tensor(offset).view(1, -1, 1, 1))
        self.register_buffer("scale", torch.tensor(scale).view(1, -1, 1, 1))
        self.register_buffer("reverse", torch.arange(preprocessing.channels - 1, -1, -1))

    def forward(self, image: Tensor) -> Tensor:
        if self.bgr:
            image = image.index_select(3, self.get_buffer("reverse"))
        # Transposed while a value is still one byte. contiguous(), or torch takes the pictures for channels-last and
        # pools them by as_strided, which turns into a chain of Range and Gather in the graph.
        x = image.permute(0, 3, 1, 2).contiguous().float()
        answer: Tensor = self.module((x - self.get_buffer("offset")) * self.get_buffer("scale"))
        return answer

"""The preprocessing inside the graph: uint8 NHWC -> channel order -> (x / scale - mean) / std -> NCHW.

Shared by training, the exported graph and the eager baseline. Decoding, resizing and cropping happen elsewhere: images
arrive in their final size.
"""

import torch
from torch import Tensor, nn

from toolchain.records.tensors import Preprocessing

ChannelConstants = tuple[tuple[float, ...], tuple[float, ...]]


def offset_and_scale(preprocessing: Preprocessing) -> ChannelConstants:
    """Per channel, the offset subtracted from a byte value and the factor applied to the result: scale mean,
    1 / (scale std)."""
    channels, scale = preprocessing.channels, preprocessing.scale
    mean, std = (values * (channels // len(values)) for values in (preprocessing.mean, preprocessing.std))
    return tuple(scale * value for value in mean), tuple(1 / (scale * value) for value in std)


def normalize_images(images: Tensor, preprocessing: Preprocessing) -> Tensor:
    """uint8 [N, H, W, C] -> normalized float32 [N, C, H, W], the model's input."""
    return PreprocessedModel(nn.Identity(), preprocessing).to(images.device).forward(images)


class PreprocessedModel(nn.Module):
    """A model with its preprocessing in front: takes uint8 [N, H, W, C], returns the model's output."""

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
        # Transpose while values are still single bytes. Without contiguous(), torch treats the images as channels-last
        # and pools them by as_strided, which becomes a chain of Range and Gather nodes in the graph. clone(): of grey
        # images contiguous() changes nothing, and the convolutions' channels-last outputs would have no view().
        x = image.permute(0, 3, 1, 2).clone(memory_format=torch.contiguous_format).float()
        answer: Tensor = self.module((x - self.get_buffer("offset")) * self.get_buffer("scale"))
        return answer

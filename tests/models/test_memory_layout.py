import pytest
import torch
from torch import Tensor, nn

from toolchain.models.memory_layout import find_memory_format, lay_out_weights, make_contiguous
from toolchain.models.preprocessing import PreprocessedModel
from toolchain.records.tensors import Preprocessing


class Viewing(nn.Module):
    """Flattens as the tutorials of torch do: by view()."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(channels, 4, 3, padding=1), nn.Linear(4 * 8 * 8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        answer: Tensor = self.head(x.view(x.size(0), -1))
        return answer


def preprocessing(channels: int) -> Preprocessing:
    return Preprocessing(8, 8, channels)


@pytest.mark.parametrize("channels", [1, 3])
def test_weights_are_laid_out_channels_last_unless_the_network_flattens_by_view(channels: int) -> None:
    viewing, flattening = Viewing(channels), nn.Sequential(nn.Conv2d(channels, 4, 3), nn.Flatten())
    assert lay_out_weights(viewing, preprocessing(channels)) is torch.contiguous_format
    assert viewing.stem.weight.is_contiguous()
    assert lay_out_weights(flattening, preprocessing(channels)) is torch.channels_last


def test_a_network_that_flattens_by_view_is_given_no_channels_last() -> None:
    assert find_memory_format(Viewing(3), preprocessing(3)) is torch.contiguous_format


@pytest.mark.parametrize("channels", [1, 3])
def test_a_network_that_flattens_by_view_answers_images_as_they_come(channels: int) -> None:
    network = Viewing(channels).eval()
    images = torch.randint(0, 256, (5, 8, 8, channels), dtype=torch.uint8)
    with torch.no_grad():
        answers = PreprocessedModel(network, preprocessing(channels))(images)
        expected = network(images.permute(0, 3, 1, 2).float().clone(memory_format=torch.contiguous_format) / 255)
    assert torch.allclose(answers, expected, atol=1e-5)


def test_a_network_with_the_hook_takes_images_in_any_order() -> None:
    network = Viewing(3)
    network.register_forward_pre_hook(make_contiguous)
    assert find_memory_format(network, preprocessing(3)) is torch.channels_last

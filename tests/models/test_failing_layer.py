import pytest
import torch
from torch import Tensor, nn

from toolchain.models.failing_layer import find_failing_layer
from toolchain.models.preprocessing import PreprocessedModel
from toolchain.records.tensors import Preprocessing


class Broken(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.view(7, -1)


@pytest.mark.parametrize(
    ("network", "place"), [(Broken(), ""), (nn.Sequential(nn.Identity(), Broken()), " in layer '1'")]
)
def test_layers_have_the_names_of_the_network_and_not_those_of_what_is_around_it(
    network: nn.Module, place: str
) -> None:
    with pytest.raises(RuntimeError, match="shape") as error:
        PreprocessedModel(network, Preprocessing(2, 2))(torch.zeros((1, 2, 2, 3), dtype=torch.uint8))
    assert find_failing_layer(error.value) == place

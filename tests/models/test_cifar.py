"""The small networks for small images: their sizes are the published ones, their names are helped with."""

import pytest
import torch

from toolchain.errors import ModelError
from toolchain.models.cifar import NETWORKS, cifar_network

PARAMETERS = {"resnet8": 78_000, "resnet20": 270_000, "resnet32": 460_000, "resnet56": 850_000, "vgg16": 14_720_000}


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_model_has_as_many_parameters_as_published(name: str) -> None:
    found = sum(parameter.numel() for parameter in cifar_network(name, 10).parameters())
    assert found == pytest.approx(PARAMETERS[name], rel=0.03)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("size", [24, 32])
def test_a_model_takes_smaller_images_too(name: str, size: int) -> None:
    with torch.inference_mode():
        answer = cifar_network(name, 7).eval()(torch.zeros(2, 3, size, size))
    assert answer.shape == (2, 7)


def test_an_unknown_name_is_met_with_the_nearest() -> None:
    with pytest.raises(ModelError, match=r"no CIFAR network 'resnet200'; did you mean resnet20\? There are: resnet8, "):
        cifar_network("resnet200", 10)
    with pytest.raises(ModelError, match=r"no CIFAR network 'inception'\. There are: resnet8, resnet20, resnet32, "):
        cifar_network("inception", 10)

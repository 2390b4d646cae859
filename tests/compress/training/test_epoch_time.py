"""How long an epoch will take is told without training."""

import torch
from torch import nn

from toolchain.compress.training.epoch_time import measure_epoch_s
from toolchain.records.tensors import Preprocessing


def test_it_grows_with_the_images_and_leaves_the_model_as_it_was() -> None:
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4 * 6 * 6, 3)).eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    shape = Preprocessing(8, 8, channels=1)
    assert 0 < measure_epoch_s(net, shape, 64, 32) < measure_epoch_s(net, shape, 64_000_000, 32)
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert not net.training
    assert all(parameter.grad is None for parameter in net.parameters())
    assert measure_epoch_s(net, shape, 1, 32) > 0

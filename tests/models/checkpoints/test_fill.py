"""Tensors into a module by their names."""

from pathlib import Path

import torch
from torchvision import models

from toolchain.models.checkpoints import fill_module


def test_a_network_that_asks_for_the_version_of_its_weights_takes_plain_tensors() -> None:
    state = models.mnasnet0_5(weights=None, num_classes=2).state_dict()
    other = models.mnasnet0_5(weights=None, num_classes=2)
    fill_module(other, dict(state), Path("some.pth"), "mnasnet0_5")
    assert torch.equal(other.state_dict()["classifier.1.weight"], state["classifier.1.weight"])

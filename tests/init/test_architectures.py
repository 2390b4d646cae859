"""Checkpoints of torchvision's networks, as trainers save them, are recognized; of others, the nearest are named."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from torchvision import models

from toolchain.errors import ModelError
from toolchain.init import architectures
from toolchain.init.architectures import recognize

PLACE = Path("some.pth")


def state(classes: int = 5) -> dict[str, Any]:
    return dict(models.shufflenet_v2_x0_5(weights=None, num_classes=classes).state_dict())


@pytest.mark.parametrize("prefix", ["", "module.", "model._orig_mod."])
def test_prefixes_of_wrappers_are_no_obstacle(prefix: str) -> None:
    content = {"epoch": 3, "state_dict": {f"{prefix}{name}": tensor for name, tensor in state().items()}}
    found = recognize(content, PLACE)
    assert (found.source, found.fit.classes) == ("torchvision:shufflenet_v2_x0_5", 5)


def test_the_averaged_weights_beside_raw_ones_are_taken() -> None:
    found = recognize({"state_dict": state(), "state_dict_ema": state()}, PLACE)
    assert "state_dict_ema" in found.note


def test_a_network_of_nobody_names_those_that_come_close_and_what_to_type() -> None:
    content = state()
    content["conv5.0.weight"] = torch.zeros(3, 3)
    with pytest.raises(ModelError, match=r"torchvision:shufflenet_v2_x0_5 \(\d+% of its tensors\).*FILE.py:FUNCTION"):
        recognize(content, PLACE)


def test_a_network_of_timm_is_found_by_the_name_in_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def create_model(name: str, pretrained: bool, num_classes: int) -> nn.Module:
        assert (name, pretrained) == ("tiny_net", False)
        return nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(8, num_classes))

    timm = SimpleNamespace(list_models=lambda: ["tiny_net", "other_net"], create_model=create_model)
    monkeypatch.setitem(sys.modules, "timm", timm)  # type: ignore[arg-type]  # only what is asked of it
    monkeypatch.setattr(architectures, "find_spec", lambda _: True)
    content = {"arch": "tiny_net", "state_dict": create_model("tiny_net", False, 4).state_dict()}
    found = recognize(content, PLACE)
    assert (found.source, found.fit.classes) == ("timm:tiny_net", 4)

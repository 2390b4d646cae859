"""What a difference between a checkpoint and a network means."""

import pytest
from torch import nn
from torchvision import models

from toolchain.init.fit import Fit, NewLayer, fit_network
from toolchain.init.shapes import build_skeleton, shapes_of


def resnet(classes: int = 1000) -> nn.Module:
    return build_skeleton(lambda: models.resnet18(weights=None, num_classes=classes))


def fit(net: nn.Module) -> Fit | None:
    return fit_network(shapes_of(net.state_dict()), resnet())


def test_a_skeleton_holds_shapes_and_no_memory() -> None:
    assert all(parameter.is_meta for name, parameter in resnet().named_parameters() if name.endswith("conv1.weight"))


def test_another_width_of_the_head_is_its_classes() -> None:
    assert fit(resnet(7)) == Fit(7, 3)


def test_a_first_layer_for_grey_images_is_put_in_place() -> None:
    net = resnet(5)
    net.conv1 = nn.Conv2d(1, 64, 7, 2, 3, bias=False)
    assert fit(net) == Fit(5, 1, (NewLayer("conv1", "nn.Conv2d(1, 64, 7, stride=2, padding=3, bias=False)"),))


def test_a_smaller_first_kernel_supposes_a_stride_and_says_so() -> None:
    net = resnet(5)
    net.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
    found = fit(net)
    assert found is not None
    assert "stride=1, padding=1" in found.changes[0].code
    assert "stride = 1" in found.supposed[0]


@pytest.mark.parametrize(
    ("head", "code"),
    [
        (nn.Sequential(nn.Dropout(), nn.Linear(512, 4)), "nn.Sequential(nn.Identity(), nn.Linear(512, 4))"),
        (
            nn.Sequential(nn.Linear(512, 64), nn.ReLU(), nn.Dropout(), nn.Linear(64, 4)),
            "nn.Sequential(nn.Linear(512, 64), nn.ReLU(), nn.Identity(), nn.Linear(64, 4))",
        ),
    ],
)
def test_a_head_that_somebody_built_is_put_in_place(head: nn.Module, code: str) -> None:
    net = resnet()
    net.fc = head
    found = fit(net)
    assert found is not None
    assert (found.classes, found.changes) == (4, (NewLayer("fc", code),))


def test_an_activation_that_leaves_no_trace_is_named_as_supposed() -> None:
    net = resnet()
    net.fc = nn.Sequential(nn.Linear(512, 64), nn.ReLU(), nn.Linear(64, 4))
    found = fit(net)
    assert found is not None
    assert found.supposed == ("a ReLU as layer 1 of fc, which leaves no trace in a checkpoint",)


def test_another_network_does_not_fit() -> None:
    other = build_skeleton(lambda: models.mobilenet_v2(weights=None))
    assert fit(other) is None


def test_a_vision_transformer_for_other_images_tells_their_size() -> None:
    usual = build_skeleton(lambda: models.vit_b_32(weights=None))
    larger = build_skeleton(lambda: models.vit_b_32(weights=None, image_size=384, num_classes=10))
    found = fit_network(shapes_of(larger.state_dict()), usual)
    assert found is not None
    assert (found.image_size, found.classes) == (384, 10)

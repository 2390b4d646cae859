"""Every kind of model that may come in, with every step, through `toolchain build` to a bundle that answers."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torchvision.models import shufflenet_v2_x0_5

from deploy.runtime.engines.openvino import BF16
from tests.instructions import has
from tests.journeys.conftest import Toolchain
from tests.journeys.own import changed
from tests.journeys.said import half_written
from toolchain.models.user_module import build_user_module
from toolchain.records.bundle import Bundle, open_bundle

pytestmark = pytest.mark.slow
GREY_ACCURACY = 271 / 280  # of examples/own_model/grey28.safetensors, in fp32
ONLY_FP32 = ("[build]", '[build]\nprecisions = ["fp32"]')
NO_STEPS = ("[[step]]\nquantize = { samples = 300 }\n", "")


def built(toolchain: Toolchain, recipe: Path, home: Path, target: str = "openvino") -> Bundle:
    last = toolchain("build", recipe, f"--target={target}").last
    bundle = open_bundle(Path(last["bundle"]))
    assert last["digest"] == bundle.digest
    assert bundle.folder.parent == home / "bundles"
    assert half_written(home) == []
    return bundle


def grey28(own: Path) -> nn.Module:
    module = build_user_module(own / "nets.py", "grey28", {})
    module.load_state_dict(load_file(own / "grey28.safetensors"))
    return module.eval()


def torchvision_recipe(folder: Path, data: Path, model: str, steps: str, loss: float = 0.0) -> Path:
    text = f"""
name = "zoo"
[model]
{model}
[input]
height = 32
width = 48
channels = 3
mean = [0.5]
std = [0.25]
[data]
name = "folder"
path = "{data}"
{steps}
[build]
max_accuracy_loss = {loss}
min_accuracy = 0.0
"""
    (folder / "zoo.toml").write_text(text)
    return folder / "zoo.toml"


def test_a_net_that_takes_wide_pictures_goes_through(own: Path, home: Path, toolchain: Toolchain) -> None:
    recipe = changed(own / "wide.toml", ("samples = 300", "samples = 100"))
    bundle = built(toolchain, recipe, home)
    manifest = bundle.manifest
    assert manifest.inputs[0].shape == (None, 96, 160, 3)
    assert [one.precision for one in manifest.candidates] == ["fp32", "bf16", "int8"]
    assert manifest.accuracy is not None
    assert manifest.accuracy.images == 80
    assert manifest.accuracy.fp32 > 0.9
    assert manifest.accuracy.chosen >= manifest.accuracy.floor
    assert manifest.labels == ("angle_000", "angle_045", "angle_090", "angle_135")
    sets = [set(manifest.data.calibration_indices), set(manifest.data.certify_indices)]
    assert len(sets[0]) == 100
    assert sets[1]
    assert not sets[0] & sets[1]
    assert toolchain("eval", bundle.folder, f"--recipe={recipe}").last["accuracy"] == manifest.accuracy.chosen


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # of torch's exporters
def test_an_onnx_model_enters_after_export(own: Path, home: Path, toolchain: Toolchain) -> None:
    torch.onnx.export(
        grey28(own), (torch.zeros(2, 1, 28, 28),), own / "grey28.onnx", dynamic_shapes=({0: "batch"},), verbose=False
    )
    recipe = changed(own / "grey28.toml", ("nets.py:grey28", "grey28.onnx"), ('weights = "grey28.safetensors"', ""))
    manifest = built(toolchain, recipe, home, "onnxruntime").manifest
    assert manifest.accuracy is not None
    assert manifest.accuracy.fp32 == pytest.approx(GREY_ACCURACY)
    assert manifest.steps == ()
    assert manifest.model == "grey28.onnx (ONNX)"


def test_an_exported_program_goes_through(own: Path, home: Path, toolchain: Toolchain) -> None:
    batch = torch.export.Dim("batch")
    program = torch.export.export(grey28(own), (torch.zeros(2, 1, 28, 28),), dynamic_shapes=({0: batch},))
    torch.export.save(program, own / "grey28.pt2")
    source = ("nets.py:grey28", "grey28.pt2"), ('weights = "grey28.safetensors"', "")
    recipe = changed(own / "grey28.toml", *source, NO_STEPS, ONLY_FP32)
    manifest = built(toolchain, recipe, home).manifest
    assert manifest.accuracy is not None
    assert manifest.accuracy.fp32 == pytest.approx(GREY_ACCURACY)
    assert manifest.chosen == "fp32"


def test_transfer_learning_is_held_against_the_net_that_came_out_of_it(
    own: Path, home: Path, toolchain: Toolchain, tmp_path: Path
) -> None:
    """A checkpoint with nine classes, data with four: the head is replaced, and the floor is that of the new net."""
    torch.manual_seed(1)
    save_file(shufflenet_v2_x0_5(num_classes=9).state_dict(), tmp_path / "nine.safetensors")
    steps = "[[step]]\nfinetune = { epochs = 1, replace_head = true, batch_size = 32 }"
    model = 'source = "torchvision:shufflenet_v2_x0_5"\nweights = "nine.safetensors"'
    recipe = torchvision_recipe(tmp_path, own / "data" / "wide", model, steps, loss=1.5)
    manifest = built(toolchain, recipe, home).manifest
    assert manifest.accuracy is not None
    assert manifest.accuracy.images == 80
    assert manifest.accuracy.floor == pytest.approx(manifest.accuracy.fp32 - 0.015)
    assert manifest.accuracy.chosen >= manifest.accuracy.floor
    assert manifest.outputs[0].shape == (None, 4)
    assert manifest.labels == ("angle_000", "angle_045", "angle_090", "angle_135")
    assert "nine.safetensors" in manifest.model
    assert [step.accuracy_validate is None for step in manifest.steps] == [True, False]


def test_a_torchvision_net_is_pruned_trained_and_quantized(
    own: Path, home: Path, toolchain: Toolchain, tmp_path: Path
) -> None:
    steps = """
[[step]]
prune_channels = { ratio = 0.5 }
[[step]]
finetune = { epochs = 1, batch_size = 32 }
[[step]]
quantize = { samples = 50 }
"""
    model = 'source = "torchvision:resnet18"\nweights = "random"'
    recipe = torchvision_recipe(tmp_path, own / "data" / "wide", model, steps, loss=100.0)
    bundle = built(toolchain, recipe, home)
    before, pruned, trained, quantized = bundle.manifest.steps
    assert [step.step for step in bundle.manifest.steps] == ["model", "prune_channels", "finetune", "quantize"]
    assert pruned.macs < 0.6 * before.macs
    assert pruned.parameters == trained.parameters == quantized.parameters < 0.6 * before.parameters
    candidates = {one.precision: one for one in bundle.manifest.candidates}
    assert set(candidates) == {"fp32", "bf16", "int8"}
    if not has(*BF16):
        refused = candidates.pop("bf16")
        assert refused.latency_ms is refused.accuracy is None
        assert refused.verdict.startswith("cannot run here: model.xml is to run in bf16; this CPU (")
    assert all(one.latency_ms for one in candidates.values())
    golden = bundle.read_arrays("sample.npz")
    assert golden["inputs"].shape[1:] == (32, 48, 3)
    assert {name for name in golden if name.startswith("outputs_")} == {f"outputs_{name}" for name in candidates}
    assert all(np.isfinite(golden[f"outputs_{name}"]).all() for name in candidates)

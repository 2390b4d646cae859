"""Quantization-aware training: the contract, the grids really used, what is refused, and where quantizers stand."""

from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.compress.contract import keeps_the_contract
from tests.compress.nets import CLASSES, context, tiny
from tests.messages import calling
from toolchain.compress import check_order
from toolchain.compress.quantization.fake_quantize import ActivationQuantizer, WeightQuantizer, observe_ranges
from toolchain.compress.quantization.fold_batchnorm import fold_batch_norms
from toolchain.compress.quantization.lsq import round_to_grid
from toolchain.compress.quantization.prepare import prepare_qat
from toolchain.compress.quantization.quantized_layers import QuantizedAdd, QuantizedConv2d, QuantizedLinear
from toolchain.compress.serialization import load_compressed, save_compressed, weights_digest
from toolchain.compress.step import CompressedModel, LearnedQuantization, Step
from toolchain.compress.steps.finetune import Finetune
from toolchain.compress.steps.prune_channels import PruneChannels
from toolchain.compress.steps.qat import Qat
from toolchain.compress.steps.quantize import Quantize
from toolchain.errors import RecipeError
from toolchain.models.cifar import cifar_network

SHORT: dict[str, Any] = {"epochs": 2, "batch_size": 16, "calibration_samples": 32, "distill": False, "lr": 1e-3}
PICTURE = torch.zeros(1, 3, 8, 8)
INT8 = LearnedQuantization(8, 8)


def short(**options: Any) -> Qat:
    return Qat(**{**SHORT, **options})


def prepared(module: nn.Module, learned: LearnedQuantization = INT8, keep_ends: bool = True) -> nn.Module:
    return prepare_qat(module.eval(), learned, keep_ends, True, torch.zeros(1, 3, 16, 16))


class Branch(nn.Module):
    """Its own forward adds."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Linear(8, len(CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        answer: Tensor = self.head((x + self.conv(x)).mean((2, 3)))
        return answer


class Undecided(Branch):
    """Cannot be traced."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if x.sum() >= 0 else super().forward(-x)


@pytest.mark.parametrize("scales", ["learned", "running"])
def test_it_keeps_the_contract(scales: str, tmp_path: Path) -> None:
    keeps_the_contract("qat", short(scales=scales), tmp_path)


@pytest.mark.parametrize("make", [tiny, Branch], ids=["tiny", "branch"])
def test_a_model_is_taught_by_what_it_was(make: type[nn.Module], tmp_path: Path) -> None:
    options = {"distill": True, "weight_bits": 4}
    original = make().eval()
    place = context(tmp_path, original=lambda: original)
    model = short(**options).apply(CompressedModel(deepcopy(original)), place)
    assert model.learned == LearnedQuantization(4, 8)
    save_compressed(model, tmp_path / "kept" / "net.pt")
    with torch.no_grad():
        assert torch.equal(load_compressed(tmp_path / "kept" / "net.pt").module(PICTURE), model.module(PICTURE))


@pytest.mark.parametrize(("bits", "most"), [(8, 255), (4, 16), (2, 4), (1, 2)])
def test_weights_take_no_more_values_than_their_bits_have(bits: int, most: int) -> None:
    weight = torch.randn(6, 40, 3, 3, generator=torch.Generator().manual_seed(0))
    quantizer = WeightQuantizer(weight, bits, learned=True)
    near, integers = quantizer(weight), quantizer.integers(weight)
    assert max(len(row.unique()) for row in near.flatten(1)) <= most
    scale = quantizer.grid(weight).scale.view(-1, 1, 1, 1)
    assert torch.allclose(integers * scale, near, atol=1e-6)
    assert int(integers.min()) >= -(2 ** max(bits - 1, 0))
    assert int(integers.max()) <= max(2 ** (bits - 1) - 1, 1)


def test_one_bit_is_sign_times_the_mean_magnitude_and_gradients_pass() -> None:
    weight = torch.tensor([[0.5, -1.5], [0.0, 2.0]], requires_grad=True)
    near = WeightQuantizer(weight, 1, learned=True)(weight)
    assert near.tolist() == [[1.0, -1.0], [1.0, 1.0]]
    near.sum().backward()
    assert weight.grad is not None
    assert weight.grad.tolist() == [[1.0, 1.0], [1.0, 1.0]]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_rounding_has_the_gradients_of_torchs_own_kernel(layout: torch.memory_format) -> None:
    random = torch.Generator().manual_seed(0)
    x = (torch.randn(4, 3, 8, 8, generator=random) * 2).to(memory_format=layout)
    weights = torch.randn(4, 3, 8, 8, generator=random)
    zero_point, found = torch.tensor([100.0]), []
    for kernel in (
        round_to_grid,
        lambda x, s, z, n, f: torch._fake_quantize_learnable_per_tensor_affine(x, s, z, 0, n, f),
    ):
        inputs, scale = x.clone().requires_grad_(), torch.tensor([0.0171], requires_grad=True)
        answer = kernel(inputs, scale, zero_point, 255, 0.01)
        torch.autograd.backward((answer * weights).sum())
        assert inputs.grad is not None
        assert scale.grad is not None
        found.append((answer.detach(), inputs.grad, scale.grad))
    for ours, theirs in zip(*found, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-3, atol=1e-4)


def test_activations_start_from_the_range_that_was_seen() -> None:
    quantizer = ActivationQuantizer(learned=True)
    with observe_ranges(quantizer):
        quantizer(torch.tensor([[-1.0, 4.1]]))
    near = quantizer(torch.tensor([[-1.0, 0.0, 4.1, 9.0]]))[0]
    assert torch.allclose(near, torch.tensor([-1.0, 0.0, 4.1, 4.1]), atol=0.011)
    assert near[1] == 0


def test_running_ranges_follow_what_is_seen_in_training_alone() -> None:
    quantizer = ActivationQuantizer(learned=False)
    with observe_ranges(quantizer):
        quantizer(torch.tensor([[0.0, 1.0]]))
    quantizer.eval()(torch.tensor([[0.0, 100.0]]))
    assert float(quantizer.get_buffer("high")) == 1.0
    quantizer.train()(torch.tensor([[0.0, 101.0]]))
    assert float(quantizer.get_buffer("high")) == pytest.approx(2.0)


def test_folded_norms_leave_the_answers_and_the_zeros() -> None:
    model = cifar_network("resnet8", 4).eval()
    for norm in (part for part in model.modules() if isinstance(part, nn.BatchNorm2d)):
        nn.init.uniform_(norm.running_mean, -1, 1)  # type: ignore[arg-type]  # there is one
        nn.init.uniform_(norm.weight, 0.5, 2)
    conv = model.get_submodule("stages.0.0.conv1")
    assert isinstance(conv, nn.Conv2d)
    nn.init.zeros_(conv.weight[0, 0])
    image = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        before = model(image)
        assert len(fold_batch_norms(model, image)) == 9
        assert torch.allclose(model(image), before, atol=1e-4)
    assert not conv.weight[0, 0].any()
    assert not any(isinstance(part, nn.BatchNorm2d) for part in model.modules())


def test_a_convolution_whose_output_is_used_twice_is_not_folded() -> None:
    class Twice(Branch):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm2d(8)
            nn.init.constant_(self.norm.weight, 3.0)

        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x)
            answer: Tensor = self.head((x + self.norm(x)).mean((2, 3)))
            return answer

    with pytest.raises(RecipeError, match="a convolution's own output is used elsewhere too; use quantize"):
        fold_batch_norms(Twice().eval(), torch.randn(1, 3, 8, 8))


def test_ends_keep_eight_bits_and_equal_tensors_share_a_quantizer() -> None:
    model = prepared(cifar_network("resnet8", 4), LearnedQuantization(4, 8))
    layers = [part for part in model.modules() if isinstance(part, QuantizedConv2d | QuantizedLinear)]
    assert [layer.weight_quantizer.bits for layer in layers] == [8, 4, 4, 4, 4, 4, 4, 4, 4, 8]
    block, add = model.get_submodule("stages.0.0"), model.get_submodule("stages.0.0.quantized_add_1")
    assert isinstance(add, QuantizedAdd)
    assert add.right_quantizer is block.get_submodule("conv1").input_quantizer
    assert add.left_quantizer is not add.right_quantizer
    assert sum(isinstance(part, QuantizedAdd) for part in model.modules()) == 3
    every = prepared(cifar_network("resnet8", 4), LearnedQuantization(4, 8), keep_ends=False)
    assert {part.bits for part in every.modules() if isinstance(part, WeightQuantizer)} == {4}


def test_an_addition_that_tracing_cannot_see_is_reported_and_stays(messages: list[str]) -> None:
    model = prepare_qat(Undecided().eval(), INT8, True, True, PICTURE)
    (message,) = messages
    assert message.startswith("qat: the model: not traced (symbolically traced variables cannot be used as inputs to ")
    assert isinstance(model, Undecided)


def test_float_activations_have_no_quantizers(tmp_path: Path) -> None:
    model = short(weight_bits=2, activation_bits=0).dry_run(CompressedModel(tiny()), context(tmp_path))
    assert model.learned == LearnedQuantization(2, None)
    assert not any(isinstance(part, ActivationQuantizer) for part in model.module.modules())


def test_zeros_of_sparsify_are_zeros_after(tmp_path: Path) -> None:
    module = tiny()
    with torch.no_grad():
        module.get_parameter("body.0.weight")[:, ::2] = 0
    model = short(weight_bits=4).apply(CompressedModel(module, sparse=("body.0.weight",)), context(tmp_path))
    layer = model.module.get_submodule("body.0")
    assert isinstance(layer, QuantizedConv2d)
    assert not layer.weight_quantizer.integers(layer.weight)[:, ::2].any()


def test_finetune_goes_on_training_the_grid(tmp_path: Path) -> None:
    first, second = context(tmp_path / "1"), context(tmp_path / "2")
    for place in (first, second):
        place.folder.mkdir()
    model = short().apply(CompressedModel(Branch().eval()), first)
    after = Finetune(epochs=1, batch_size=16, lr=1e-3).apply(model, second)
    assert after.learned == model.learned
    assert weights_digest(after.module) != weights_digest(model.module)
    assert isinstance(after.module.get_submodule("stem"), QuantizedConv2d)


def test_resumed_it_ends_with_the_same_weights(tmp_path: Path, messages: list[str]) -> None:
    class Killed(Exception): ...

    def dying(line: str) -> None:
        if line.startswith("epoch 1/"):
            raise Killed

    for name in ("straight", "killed"):
        (tmp_path / name).mkdir()
    step, model = short(weight_bits=4), CompressedModel(tiny())
    straight = step.apply(model, context(tmp_path / "straight"))
    with pytest.raises(Killed), calling(dying):
        step.apply(model, context(tmp_path / "killed"))
    resumed = step.apply(model, context(tmp_path / "killed"))
    assert any("resuming after epoch 1 of 2" in line for line in messages)
    assert weights_digest(resumed.module) == weights_digest(straight.module)


def test_what_cannot_work_is_refused_in_one_line(tmp_path: Path) -> None:
    place, model = context(tmp_path), CompressedModel(tiny())
    with pytest.raises(RecipeError, match="calibration_samples = 500: data 'made' has 96 training images"):
        Qat(calibration_samples=500).check(place)
    with pytest.raises(RecipeError, match="the model is quantized already; one qat step is enough"):
        short().dry_run(replace(model, learned=INT8), place)
    with pytest.raises(RecipeError, match="one-bit weights have no zero, so the sparsity would be lost"):
        short(weight_bits=1).dry_run(replace(model, sparse=("body.0.weight",)), place)
    with pytest.raises(RecipeError, match="nothing to quantize: the model runs no Conv2d and no Linear layer"):
        prepare_qat(nn.Flatten(), INT8, True, True, PICTURE)


@pytest.mark.parametrize(
    ("later", "message"),
    [
        (
            ("prune_channels", PruneChannels()),
            r"r.toml: step 2, prune_channels: comes after qat \(step 1\).*before qat",
        ),
        (("quantize", Quantize()), r"step 2, quantize: comes after qat \(step 1\), whose .* meaningless; remove quan"),
        (("finetune", Finetune(replace_head=True)), r"step 2, finetune: comes after qat .* move it before qat"),
        (("qat", Qat()), r"r.toml: step 2, qat: step 1 quantizes already; remove one of them"),
    ],
)
def test_a_step_that_would_make_the_grid_meaningless_is_refused(later: tuple[str, Step], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        check_order([("qat", Qat()), later], "r.toml")
    check_order([later, ("qat", Qat())] if later[0] in ("prune_channels", "finetune") else [("qat", Qat())], "r.toml")


def test_symmetric_activations_have_as_many_steps_below_zero_as_above() -> None:
    for learned in (True, False):
        quantizer = ActivationQuantizer(learned, symmetric=True).eval()
        with observe_ranges(quantizer):
            quantizer(torch.tensor([[-1.0, 2.54]]))
        scale, zero_point = quantizer.grid()
        assert (float(scale.detach()), float(zero_point)) == (pytest.approx(0.02), 128.0)
        near = quantizer(torch.tensor([[-9.0, -1.0, 0.0, 0.033, 2.54, 9.0]]))[0]
        assert torch.allclose(near, torch.tensor([-2.56, -1.0, 0.0, 0.04, 2.54, 2.54]), atol=1e-6)

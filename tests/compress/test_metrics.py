import numpy as np
import pytest
import torch
from torch import nn

from tests.compress.nets import PREPROCESSING, data, part, tiny
from toolchain.compress.metrics import accuracy, macs, parameter_count, sparsity, step_record, weights_size_bytes
from toolchain.compress.step import CompressedModel
from toolchain.data import Split
from toolchain.errors import ModelError
from toolchain.models.check import class_count
from toolchain.models.eval_mode import evaluation_mode
from toolchain.models.preprocessing import normalize_images


def test_parameters_bytes_and_multiply_accumulates_are_those_of_paper_and_pencil() -> None:
    model = tiny()
    weights = 3 * 16 * 9 + 2 * 16 + 16 * 32 * 9 + 2 * 32 + 32 * 4 + 4
    assert parameter_count(model) == weights
    assert weights_size_bytes(model) == 4 * (weights + 2 * 16 + 2 * 32)
    assert macs(model, PREPROCESSING) == 64 * 3 * 16 * 9 + 16 * 16 * 32 * 9 + 32 * 4


def test_sparsity_is_the_share_of_zero_weights_norms_and_biases_apart() -> None:
    model = tiny()
    assert sparsity(model) == 0.0
    with torch.no_grad():
        model.head.weight[:, ::2] = 0
        model.head.bias.zero_()
    assert sparsity(model) == pytest.approx(32 * 4 / 2 / (3 * 16 * 9 + 16 * 32 * 9 + 32 * 4))
    assert step_record("model", {}, CompressedModel(model), data(), PREPROCESSING, 0.0).sparsity == sparsity(model)


def test_accuracy_is_the_share_of_right_answers() -> None:
    images, model = part(30, 1), tiny()
    with torch.no_grad():
        answers = model(normalize_images(torch.from_numpy(images.images[:]), PREPROCESSING)).argmax(1).numpy()
    told = Split(images.images, np.where(np.arange(30) < 12, answers, (answers + 1) % 4), images.indices)
    assert accuracy(model, told, PREPROCESSING, "told") == pytest.approx(0.4)


def test_measuring_leaves_each_layers_mode_as_it_was() -> None:
    model = tiny().train()
    model.stem.eval()
    with evaluation_mode(model):
        assert not model.body.training
    assert model.body.training
    assert not model.stem.training


def test_an_exported_program_is_measured_too() -> None:
    batch = torch.export.Dim("batch")
    program = torch.export.export(tiny(), (torch.zeros(2, 3, 8, 8),), dynamic_shapes=({0: batch},)).module()
    record = step_record("model", {}, CompressedModel(program), data(), PREPROCESSING, 0.0)
    assert record.accuracy_validate == accuracy(tiny(), data().split("validate"), PREPROCESSING, "tiny")
    assert record.macs == macs(tiny(), PREPROCESSING)


def test_a_model_of_other_classes_has_no_accuracy() -> None:
    assert (
        step_record("model", {}, CompressedModel(tiny(classes=9)), data(), PREPROCESSING, 0.0).accuracy_validate is None
    )
    assert (
        step_record("model", {}, CompressedModel(tiny()), data(train=4), PREPROCESSING, 0.0).accuracy_validate is None
    )


def test_a_model_that_does_not_fit_the_input_is_refused() -> None:
    with pytest.raises(
        ModelError, match=r"the model: fails on an input of float32 \[2, 3, 8, 8\]: .*; check the recipe's \[input"
    ):
        class_count(nn.Conv2d(1, 4, 3), PREPROCESSING)
    with pytest.raises(
        ModelError, match=r"the model: returns \[2, 4, 6, 6\] for 2 images; expected logits \[2, classes\]"
    ):
        class_count(nn.Conv2d(3, 4, 3), PREPROCESSING)

"""Who may teach, what several say together, and teachers that exist only as an ONNX file."""

from pathlib import Path

import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from tests.compress.nets import CLASSES, PREPROCESSING, context, tiny
from toolchain.compress.distillation.onnx_teacher import OnnxTeacher
from toolchain.compress.distillation.teachers import entropy_weighted_mean, load_teachers, teacher_logits
from toolchain.compress.serialization import weights_digest
from toolchain.compress.step import CompressedModel
from toolchain.compress.steps.distill import Distill
from toolchain.compress.steps.distill_hints import DistillHints
from toolchain.errors import RecipeError, ToolchainError
from toolchain.models.onnx_file.interface import open_onnx
from toolchain.recipe import ModelSpec


def graph(
    path: Path, batch: int | str = "n", size: int | str = 8, classes: int = 4, kind: int = TensorProto.FLOAT
) -> Path:
    """A graph of [batch, 3, size, size] -> [batch, classes]: the mean of each channel times a matrix."""
    weights = numpy_helper.from_array(torch.arange(3.0 * classes).reshape(3, classes).numpy(), "weights")
    nodes = [
        helper.make_node("Cast", ["image"], ["cast"], to=TensorProto.FLOAT),
        helper.make_node("GlobalAveragePool", ["cast"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weights"], ["logits"]),
    ]
    inputs = [helper.make_tensor_value_info("image", kind, [batch, 3, size, size])]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, classes])]
    made = helper.make_graph(nodes, "teacher", inputs, outputs, [weights])
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path)
    return path


def teacher_of(path: Path) -> OnnxTeacher:
    return OnnxTeacher(open_onnx(path, ModelSpec(path.name), PREPROCESSING))


def refused(path: Path, small_epochs: int = 0) -> str:
    step = Distill(teachers=(ModelSpec(path.name),), small_epochs=small_epochs)
    with pytest.raises(ToolchainError) as error:
        step.dry_run(CompressedModel(tiny()), context(path.parent, base=path.parent))
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("batch", ["n", 1, 3])
def test_an_onnx_teacher_answers_any_batch_whatever_its_own(batch: int | str, tmp_path: Path) -> None:
    teacher = teacher_of(graph(tmp_path / "t.onnx", batch))
    images = torch.randn(4, 3, 8, 8)
    wanted = images.mean((2, 3)) @ torch.arange(12.0).reshape(3, 4)
    assert torch.allclose(teacher(images), wanted, atol=1e-5)


def test_smaller_images_are_enlarged_for_a_graph_of_a_fixed_size(tmp_path: Path) -> None:
    fixed = teacher_of(graph(tmp_path / "fixed.onnx"))
    free = teacher_of(graph(tmp_path / "free.onnx", size="size"))
    flat = torch.ones(2, 3, 6, 6)
    assert torch.allclose(fixed(flat), free(flat))


def test_a_student_learns_from_an_onnx_teacher(tmp_path: Path) -> None:
    graph(tmp_path / "t.onnx", 1)
    step = Distill(teachers=(ModelSpec("t.onnx"),), epochs=2, small_epochs=1, batch_size=16, alpha=0.9)
    place = context(tmp_path / "work", base=tmp_path)
    assert step.dry_run(CompressedModel(tiny()), place).history == ()
    assert len(step.apply(CompressedModel(tiny()), place).history) == 2


def test_graphs_that_differ_have_other_digests(tmp_path: Path) -> None:
    one, other = (teacher_of(graph(tmp_path / f"{n}.onnx", n)) for n in (1, 2))
    assert weights_digest(one) != weights_digest(other)


def test_an_onnx_teacher_that_takes_other_images_is_refused(tmp_path: Path) -> None:
    text = refused(graph(tmp_path / "t.onnx", size=16))
    assert "t.onnx: input 'image' float32 [?, 3, 16, 16]; expected float32, float16 or uint8 [N, 3, 8, 8]" in text
    assert "teacher b.onnx takes bytes, and a teacher sees" in refused(
        graph(tmp_path / "b.onnx", kind=TensorProto.UINT8)
    )


def test_an_onnx_teacher_of_other_classes_is_refused(tmp_path: Path) -> None:
    assert refused(graph(tmp_path / "t.onnx", classes=7)) == (
        "teacher t.onnx (ONNX) has 7 classes, data 'made' has 4; name a teacher with the same classes"
    )


def test_an_onnx_teacher_has_no_inner_layers(tmp_path: Path) -> None:
    graph(tmp_path / "t.onnx")
    with pytest.raises(RecipeError, match=r"^teacher t.onnx: an ONNX file has no accessible inner layers; use dist"):
        DistillHints(teachers=(ModelSpec("t.onnx"),)).dry_run(CompressedModel(tiny()), context(tmp_path, base=tmp_path))


def test_the_original_model_teaches_where_no_other_is_named(tmp_path: Path) -> None:
    [teacher] = load_teachers((), context(tmp_path, original=tiny))
    assert weights_digest(teacher) == weights_digest(tiny())
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    with pytest.raises(RecipeError, match=r"^no teacher is named and there is no original model; add teachers = "):
        load_teachers((), context(tmp_path))
    with pytest.raises(RecipeError, match=r"^the model that the recipe starts from has 7 classes, data 'made' has"):
        load_teachers((), context(tmp_path, original=lambda: tiny(7)))


def test_a_teacher_that_takes_one_size_alone_is_refused_for_small_epochs(tmp_path: Path) -> None:
    def flat() -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(192, len(CLASSES)))

    step, place = Distill(small_epochs=1), context(tmp_path, original=flat)
    with pytest.raises(RecipeError, match=r"takes no images of 6x6, as small_epochs requires \(.*mat1 and mat2"):
        step.dry_run(CompressedModel(tiny()), place)
    Distill().dry_run(CompressedModel(tiny()), place)


def test_a_confident_teacher_counts_more_than_an_unsure_one() -> None:
    sure, unsure = torch.tensor([[20.0, 0.0]]), torch.tensor([[0.0, 0.0]])
    assert torch.allclose(entropy_weighted_mean(torch.stack([sure, unsure])), sure, atol=1e-4)
    assert torch.equal(entropy_weighted_mean(sure[None]), sure)
    alike = entropy_weighted_mean(torch.stack([unsure, unsure + 2]))
    assert torch.allclose(alike, unsure + 1)


def test_entropy_weights_are_those_of_the_formula() -> None:
    shares = torch.tensor([[0.5, 0.5], [0.9, 0.1], [0.99, 0.01]])
    entropies = -(shares * shares.log()).sum(1)
    weights = (1 - entropies / entropies.sum()) / 2
    found = entropy_weighted_mean(shares.log()[:, None])
    assert torch.allclose(found[0], (weights[:, None] * shares.log()).sum(0), atol=1e-6)
    assert torch.allclose(weights.sum(), torch.tensor(1.0))


def test_several_teachers_are_averaged_without_gradients() -> None:
    first, second, images = tiny(), nn.Sequential(nn.Flatten(), nn.Linear(192, 4)), torch.randn(3, 3, 8, 8)
    found = teacher_logits((first, second), images)
    assert not found.requires_grad
    assert torch.allclose(found, (first(images) + second(images)) / 2)

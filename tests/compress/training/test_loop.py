from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.compress.nets import CLASSES, PREPROCESSING, SHAPE, context, part
from toolchain.compress.batches import Batches
from toolchain.compress.distillation.teachers import move_teachers
from toolchain.compress.metrics import accuracy
from toolchain.compress.step import CompressedModel
from toolchain.compress.steps.distill import Distill
from toolchain.compress.steps.finetune import Finetune
from toolchain.compress.training.loop import learning_rate
from toolchain.models.preprocessing import normalize_images
from toolchain.records.tensors import Preprocessing

CPU = torch.device("cpu")


@given(st.sampled_from(["linear", "cosine"]), st.floats(0, 2), st.integers(1, 9))
def test_the_rate_rises_to_lr_and_falls_towards_lr_end(schedule: str, warmup: float, steps: int) -> None:
    plan = Finetune(epochs=4, lr=0.4, lr_end=0.1, schedule=schedule, warmup_epochs=warmup)  # type: ignore[arg-type]  # drawn from its two values
    rates = [learning_rate(plan, done, steps) for done in range(4 * steps)]
    top = rates.index(max(rates))
    assert rates[:top] == sorted(rates[:top])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert max(rates) <= 0.4
    assert learning_rate(plan, 4 * steps, steps) == pytest.approx(0.1)


def test_a_constant_rate_stays() -> None:
    plan = Finetune(epochs=2, lr=0.4, schedule="constant", warmup_epochs=1)
    assert [learning_rate(plan, done, 2) for done in range(4)] == [0.2, 0.4, 0.4, 0.4]


def test_normalized_is_what_preprocessing_says() -> None:
    images = torch.tensor([[[[0, 51, 255]]]], dtype=torch.uint8)
    preprocessing = Preprocessing(1, 1, mean=(0.0, 0.2, 0.5), std=(1.0, 0.5, 0.25), order="bgr")
    found = normalize_images(images, preprocessing)
    assert found.shape == (1, 3, 1, 1)
    assert found.flatten().tolist() == pytest.approx([1.0, 0.0, -2.0])


def test_an_epoch_sees_every_image_at_most_once_with_its_label() -> None:
    pictures = part(50, 0)
    batches = Batches(pictures, PREPROCESSING, CPU)
    seen = list(batches.random_batches(16, (), torch.Generator().manual_seed(1)))
    assert [len(labels) for _, labels in seen] == [16, 16, 16]
    whole = normalize_images(torch.from_numpy(pictures.images[:]), PREPROCESSING)
    for images, labels in seen:
        for image, label in zip(images, labels, strict=True):
            at = [i for i in range(50) if torch.equal(whole[i], image)]
            assert [int(pictures.labels[i]) for i in at] == [int(label)]


def test_evaluation_sees_all_images_in_order() -> None:
    pictures = part(50, 0)
    labels = torch.cat([labels for _, labels in Batches(pictures, PREPROCESSING, CPU).ordered_batches()])
    assert labels.tolist() == pictures.labels.tolist()
    assert pictures.images.shape[1:] == SHAPE


class Viewing(nn.Module):
    """Flattens as the tutorials of torch do: by view(), which refuses channels-last."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4 * 8 * 8, len(CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        answer: Tensor = self.head(x.view(x.size(0), -1))
        return answer


@pytest.mark.parametrize("step", [Finetune(epochs=1), Distill(epochs=1)])
def test_a_network_that_flattens_by_view_is_trained(step: Finetune | Distill, tmp_path: Path) -> None:
    after = step.apply(CompressedModel(Viewing()), context(tmp_path, original=Viewing))
    assert after.history[-1]["accuracy_validate"] >= 0
    assert accuracy(after.module, part(20, 2), PREPROCESSING, "view") >= 0


def test_a_teacher_that_flattens_by_view_takes_its_student_s_images() -> None:
    (teacher,) = move_teachers((Viewing().eval(),), CPU, PREPROCESSING)
    images = torch.randn(5, 3, 8, 8)
    expected = teacher(images)
    assert torch.allclose(teacher(images.contiguous(memory_format=torch.channels_last)), expected, atol=1e-5)

"""Each loss is what its paper says, on tensors small enough to reckon by hand."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from toolchain.compress.distillation.layer_pairs import match_sizes
from toolchain.compress.steps.distill_attention import attention_loss, attention_map
from toolchain.compress.steps.distill_hints import hint_loss
from toolchain.compress.steps.distill_mutual import DistillMutual
from toolchain.compress.steps.distill_relation import angle_loss, distance_loss, embedding
from toolchain.compress.steps.distill_self import DistillSelf
from toolchain.compress.training.losses import classification_loss, decoupled_kl, distillation_kl, logits_of
from toolchain.records.output import SOFTMAX, OutputKind

LABELS = torch.tensor([0, 2])
STUDENT = torch.tensor([[1.0, 2.0, 0.5], [0.0, -1.0, 3.0]])
TEACHER = torch.tensor([[3.0, 1.0, 0.0], [1.0, 0.0, 2.0]])


def kl(wanted: list[float], found: list[float]) -> float:
    return sum(p * math.log(p / q) for p, q in zip(wanted, found, strict=True))


def softmax(logits: list[float], temperature: float) -> list[float]:
    powers = [math.exp(one / temperature) for one in logits]
    return [one / sum(powers) for one in powers]


def test_softened_answers_are_compared_as_hinton_says() -> None:
    each = [kl(softmax(t, 2), softmax(s, 2)) for t, s in zip(TEACHER.tolist(), STUDENT.tolist(), strict=True)]
    assert float(distillation_kl(STUDENT, TEACHER, 2.0)) == pytest.approx(4 * sum(each) / 2, rel=1e-5)


def decoupled_by_hand(
    student: list[float], teacher: list[float], label: int, temperature: float
) -> tuple[float, float]:
    found, wanted = softmax(student, temperature), softmax(teacher, temperature)
    target = kl([wanted[label], 1 - wanted[label]], [found[label], 1 - found[label]])
    rest = [[p / (1 - of[label]) for i, p in enumerate(of) if i != label] for of in (wanted, found)]
    return target, kl(rest[0], rest[1])


def test_decoupled_distillation_weighs_the_label_and_the_rest_apart() -> None:
    each = [
        decoupled_by_hand(s, t, int(label), 4.0)
        for s, t, label in zip(STUDENT.tolist(), TEACHER.tolist(), LABELS, strict=True)
    ]
    target, rest = (16 * sum(part) / 2 for part in zip(*each, strict=True))
    found = float(decoupled_kl(STUDENT, TEACHER, LABELS, 1.0, 8.0, 4.0))
    assert found == pytest.approx(target + 8 * rest, rel=1e-4)


def test_decoupled_parts_make_up_the_whole_answer() -> None:
    """KL = TCKD + (1 - p_label) NCKD (Zhao et al. 2022, equation 6): one image at a time, the teacher's share."""
    for row in (0, 1):
        s, t, label = STUDENT[row : row + 1], TEACHER[row : row + 1], LABELS[row : row + 1]
        share = 1 - float(functional.softmax(t, 1)[0, label])
        found = float(decoupled_kl(s, t, label, 1.0, share, 1.0))
        assert found == pytest.approx(float(distillation_kl(s, t, 1.0)), rel=1e-4)


def test_hints_are_mean_squared_differences_averaged_over_layers() -> None:
    zeros, ones = torch.zeros(1, 2, 2, 2), torch.ones(1, 2, 2, 2)
    assert float(hint_loss([zeros, zeros], [ones, 3 * ones])) == pytest.approx((1 + 9) / 2)


def test_maps_of_different_size_meet_at_the_smaller() -> None:
    small, large = torch.tensor([[[[1.0]]]]), torch.tensor([[[[0.0, 2.0], [4.0, 6.0]]]])
    one, other = match_sizes(small, large)
    assert one.shape == other.shape == (1, 1, 1, 1)
    assert float(other) == 3.0


def test_attention_is_the_energy_of_all_channels_at_length_one() -> None:
    maps = torch.tensor([[[[3.0, 0.0]], [[0.0, 2.0]]]])  # energies 9 / 2 and 4 / 2
    length = math.hypot(4.5, 2.0)
    assert attention_map(maps).flatten().tolist() == pytest.approx([4.5 / length, 2 / length])
    wanted = torch.tensor([[[[1.0, 0.0]]]])
    expected = ((1 - 4.5 / length) ** 2 + (2 / length) ** 2) / 2
    assert float(attention_loss([maps, maps], [wanted, maps])) == pytest.approx(expected)


def test_distances_are_measured_by_their_own_mean() -> None:
    student, teacher = torch.tensor([[0.0], [1.0], [3.0]]), torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 0.0]])
    found, wanted = [1 / 2, 3 / 2, 2 / 2], [5 / 5, 0.0, 5 / 5]  # pairs 01, 02, 12, each by the mean of those above 0
    huber = sum(0.5 * d * d if d < 1 else d - 0.5 for d in (abs(a - b) for a, b in zip(found, wanted, strict=True)))
    assert float(distance_loss(student, teacher)) == pytest.approx(2 * huber / 9, rel=1e-5)
    assert float(distance_loss(7 * teacher, teacher)) == pytest.approx(0.0, abs=1e-9)


def test_angles_are_those_at_each_image_between_the_two_others() -> None:
    student = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])  # cosines 0, 1/sqrt 2, 1/sqrt 2
    teacher = torch.tensor([[0.0], [1.0], [2.0]])  # cosines 1, -1, 1
    root = math.sqrt(0.5)
    differences = [1.0, 1 + root, 1 - root]
    huber = sum(0.5 * d * d if d < 1 else d - 0.5 for d in differences)
    assert float(angle_loss(student, teacher)) == pytest.approx(2 * huber / 27, rel=1e-5)


def test_relations_have_slopes_also_where_two_images_coincide() -> None:
    same = torch.zeros(3, 2, requires_grad=True)
    (distance_loss(same, torch.randn(3, 2)) + angle_loss(same, torch.randn(3, 2))).backward()  # type: ignore[no-untyped-call]  # torch's
    assert same.grad is not None
    assert bool(same.grad.isfinite().all())


def test_an_embedding_of_maps_is_their_mean_over_places() -> None:
    assert embedding(torch.tensor([[[[1.0, 3.0]]]])).tolist() == [[2.0]]
    assert embedding(torch.ones(2, 5)).shape == (2, 5)


class Said(torch.nn.Module):
    """Answers what it was made to."""

    def __init__(self, answer: object) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, images: Tensor) -> object:
        return self.answer


def test_peers_learn_from_labels_and_from_each_other() -> None:
    step = DistillMutual(weight=0.5, temperature=2.0)
    found = step._loss(SOFTMAX, Said((STUDENT, TEACHER)), STUDENT, LABELS)
    hard = functional.cross_entropy(STUDENT, LABELS) + functional.cross_entropy(TEACHER, LABELS)
    soft = distillation_kl(STUDENT, TEACHER, 2.0) + distillation_kl(TEACHER, STUDENT, 2.0)
    assert torch.allclose(found, hard + 0.5 * soft)


def test_an_exit_learns_from_labels_answers_and_the_deepest_map() -> None:
    from toolchain.compress.distillation.auxiliary import StudentOutput

    deepest, shallow = torch.ones(2, 3, 1, 1), torch.zeros(2, 3, 1, 1)
    step = DistillSelf(alpha=0.3, temperature=3.0, hint_weight=0.5, exit_weight=2.0)
    output = StudentOutput(TEACHER, (shallow, deepest), ((STUDENT, shallow),))
    found = step._loss(SOFTMAX, Said(output), STUDENT, LABELS)
    hard, soft = functional.cross_entropy(STUDENT, LABELS), distillation_kl(STUDENT, TEACHER, 3.0)
    exit_loss = 0.7 * hard + 0.3 * soft + 0.5 * 1.0
    assert torch.allclose(found, functional.cross_entropy(TEACHER, LABELS) + 2 * exit_loss)


def test_a_wrapper_of_a_net_with_auxiliary_classifiers_answers_with_the_model_own() -> None:
    assert torch.equal(logits_of(((STUDENT, TEACHER), ())), STUDENT)  # type: ignore[arg-type]  # a wrapper's answers
    assert float(classification_loss((STUDENT, None), LABELS, 0.0)) == float(functional.cross_entropy(STUDENT, LABELS))


SIGMOID = OutputKind("sigmoid", in_graph=False)


def test_one_output_by_sigmoid_learns_by_binary_cross_entropy() -> None:
    logits, labels = torch.tensor([[0.3], [-1.2]]), torch.tensor([1, 0])
    expected = functional.binary_cross_entropy_with_logits(logits[:, 0], labels.float())
    assert torch.allclose(classification_loss(logits, labels, 0.0, SIGMOID), expected)
    probabilities = classification_loss(logits.sigmoid(), labels, 0.0, OutputKind("sigmoid", in_graph=True))
    assert torch.allclose(probabilities, expected)
    mixed = torch.tensor([[0.25, 0.75], [1.0, 0.0]])
    expected = functional.binary_cross_entropy_with_logits(logits[:, 0], mixed[:, 1])
    assert torch.allclose(classification_loss(logits, mixed, 0.0, SIGMOID), expected)


def test_labels_that_do_not_exclude_each_other_learn_each_by_itself() -> None:
    logits, labels = torch.tensor([[0.3, -2.0, 1.0], [-1.2, 0.5, 0.1]]), torch.tensor([[1, 0, 1], [0, 0, 1]])
    expected = functional.binary_cross_entropy_with_logits(logits, labels.float())
    assert torch.allclose(classification_loss(logits, labels, 0.0, SIGMOID), expected)
    assert torch.allclose(classification_loss(logits, labels.float(), 0.0, SIGMOID), expected)  # of mixed images
    smooth = functional.binary_cross_entropy_with_logits(logits, labels * 0.9 + 0.05)
    assert torch.allclose(classification_loss(logits, labels, 0.1, SIGMOID), smooth)


def test_a_softmax_inside_the_model_is_not_applied_twice() -> None:
    inside = OutputKind("softmax", in_graph=True)
    found = classification_loss(STUDENT.softmax(1), LABELS, 0.0, inside)
    assert torch.allclose(found, functional.cross_entropy(STUDENT, LABELS), atol=1e-5)

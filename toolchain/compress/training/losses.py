"""Losses on logits, shared by the training steps. Knows nothing of models."""

import torch
from torch import Tensor
from torch.nn import functional

AUXILIARY_WEIGHT = 0.3  # weight of an auxiliary classifier's loss (Szegedy et al. 2015)

ModelOutput = Tensor | tuple[Tensor | None, ...]  # in training some networks return auxiliary logits too


def logits_of(answers: ModelOutput) -> Tensor:
    """The main classifier's logits [N, classes]."""
    main: ModelOutput | None = answers
    while isinstance(main, tuple):  # a wrapper's outputs begin with the model's, which may be a tuple itself
        main = main[0]
    assert main is not None  # the first is the model's own output
    return main


def classification_loss(answers: ModelOutput, labels: Tensor, label_smoothing: float) -> Tensor:
    """Cross-entropy with the labels [N]; auxiliary classifiers are weighted by AUXILIARY_WEIGHT."""
    total = functional.cross_entropy(logits_of(answers), labels, label_smoothing=label_smoothing)
    for answer in answers[1:] if isinstance(answers, tuple) else ():
        if answer is not None:
            total = total + AUXILIARY_WEIGHT * functional.cross_entropy(answer, labels)
    return total


def distillation_kl(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T^2 KL(softmax(teacher / T) || softmax(student / T)), averaged over the batch (Hinton et al. 2015)."""
    wanted = functional.log_softmax(teacher / temperature, 1)
    log_student = functional.log_softmax(student / temperature, 1)
    return temperature**2 * functional.kl_div(log_student, wanted, reduction="batchmean", log_target=True)


def decoupled_kl(
    student: Tensor, teacher: Tensor, labels: Tensor, alpha: float, beta: float, temperature: float
) -> Tensor:
    """T^2 (alpha TCKD + beta NCKD), averaged over the batch (Zhao et al. 2022). TCKD compares the probability of the
    label's class with that of all others together; NCKD compares the distribution among the others. labels: int64 [N].
    """
    right = functional.one_hot(labels, student.shape[1]).bool()
    log_student, wanted = (functional.log_softmax(logits.float() / temperature, 1) for logits in (student, teacher))
    target = functional.kl_div(
        _target_against_rest(log_student, right),
        _target_against_rest(wanted, right),
        reduction="batchmean",
        log_target=True,
    )
    others = functional.kl_div(
        _non_target_classes(log_student, right),
        _non_target_classes(wanted, right),
        reduction="batchmean",
        log_target=True,
    )
    return temperature**2 * (alpha * target + beta * others)


def _target_against_rest(logs: Tensor, right: Tensor) -> Tensor:
    """Log-probabilities [N, 2]: of the label's class, and of all others together."""
    others = logs.masked_fill(right, -torch.inf).logsumexp(1)
    return torch.stack([logs[right], others], 1)


def _non_target_classes(logs: Tensor, right: Tensor) -> Tensor:
    """Log-probabilities [N, classes - 1] among all classes but the label's."""
    rest = logs[~right].view(len(logs), -1)
    return functional.log_softmax(rest, 1)

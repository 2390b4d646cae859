"""Losses on logits, shared by the training steps. Knows nothing of models."""

import torch
from torch import Tensor
from torch.nn import functional

from toolchain.records.output import SOFTMAX, OutputKind

AUXILIARY_WEIGHT = 0.3  # weight of an auxiliary classifier's loss (Szegedy et al. 2015)
PROBABILITY_EPS = 1e-6  # of a model that returns probabilities: their logarithm must stay finite

ModelOutput = Tensor | tuple[Tensor | None, ...]  # in training some networks return auxiliary logits too


def logits_of(answers: ModelOutput) -> Tensor:
    """The main classifier's logits [N, classes]."""
    main: ModelOutput | None = answers
    while isinstance(main, tuple):  # a wrapper's outputs begin with the model's, which may be a tuple itself
        main = main[0]
    assert main is not None  # the first is the model's own output
    return main


def choice_logits(outputs: Tensor, output: OutputKind) -> Tensor:
    """The model's outputs [N, outputs] as logits of choices among alternatives that exclude each other, of which
    softmax makes the probabilities: [N, classes]; a sigmoid's logit z is the choice between 0 and z, so [N, 2] for one
    output and [N labels, 2] for several."""
    if output.activation == "sigmoid":
        logits = torch.logit(outputs.float(), eps=PROBABILITY_EPS) if output.in_graph else outputs
        return torch.stack((torch.zeros_like(logits), logits), 2).flatten(0, 1)
    return outputs.float().clamp(min=PROBABILITY_EPS).log() if output.in_graph else outputs


def choice_labels(labels: Tensor, outputs: int, output: OutputKind) -> Tensor:
    """The labels of those choices: as they are, but of [N labels] or [N labels, 2] for labels that do not exclude each
    other. labels: int64 [N], or shares float32 [N, classes] of mixed images; of labels, 0 and 1 or shares [N, labels].
    """
    if not output.is_multilabel(outputs):
        return labels
    if labels.ndim == 1:
        labels = functional.one_hot(labels, outputs)
    flat = labels.flatten()
    return torch.stack((1 - flat, flat), 1) if flat.is_floating_point() else flat.long()


def classification_loss(
    answers: ModelOutput, labels: Tensor, label_smoothing: float, output: OutputKind = SOFTMAX
) -> Tensor:
    """Cross-entropy with the labels: binary, and averaged over the labels, by sigmoid; auxiliary classifiers are
    weighted by AUXILIARY_WEIGHT."""
    main = logits_of(answers)
    wanted = choice_labels(labels, main.shape[1], output)
    total = functional.cross_entropy(choice_logits(main, output), wanted, label_smoothing=label_smoothing)
    for answer in answers[1:] if isinstance(answers, tuple) else ():
        if answer is not None:
            total = total + AUXILIARY_WEIGHT * functional.cross_entropy(choice_logits(answer, output), wanted)
    return total


def distillation_kl(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T^2 KL(softmax(teacher / T) || softmax(student / T)), averaged over the batch (Hinton et al. 2015), or over the
    choices of all labels (Yang et al. 2023, multi-label logits distillation)."""
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

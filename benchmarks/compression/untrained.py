"""An untrained model that still distinguishes images, which is what parity needs.

With random or freshly pruned weights the outputs are nearly the same for every image, or zeros in int8, and agreement
is meaningless. Therefore BatchNorm statistics are taken from a few images and the classifier is fitted to them in
closed form (ridge regression, Hoerl & Kennard 1970). Its accuracy is meaningless; the agreement of outputs is not.
"""

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from toolchain.compress.training.head import ClassifierHead, find_head
from toolchain.models.eval_mode import evaluation_mode
from toolchain.records.tensors import Preprocessing

BATCH = 16
RIDGE = 0.02  # of the mean diagonal; at 0.1 one odd image left the others near ties (Inception-v3)
SPAN = 10.0  # of the fitted logits: for the wanted class; all others are zero


def set_batchnorm_statistics(module: nn.Module, images: Tensor) -> None:
    """Take the BatchNorm statistics of `module` from images float32 [N, C, H, W], normalized."""
    norms = [layer for layer in module.modules() if isinstance(layer, _BatchNorm)]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    with evaluation_mode(module), torch.no_grad():
        for norm in norms:
            norm.reset_running_stats()
            norm.train()
            norm.momentum = None  # the plain mean over all batches
        _through(module, images)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def fit_classifier(module: nn.Module, preprocessing: Preprocessing, images: Tensor, labels: Tensor) -> None:
    """Fit the classifier of `module` to images float32 [N, C, H, W], normalized, with labels int64 [N]."""
    head = find_head(module, preprocessing)
    with torch.no_grad():
        _fit(head, _features(module, head, images), labels)


def _through(module: nn.Module, images: Tensor) -> None:
    for batch in torch.split(images, BATCH):
        module(batch)


def _features(module: nn.Module, head: ClassifierHead, images: Tensor) -> Tensor:
    """The classifier's input for each image, float32 [N, F]; a convolution's positions are averaged."""
    seen: list[Tensor] = []
    hook = head.layer.register_forward_pre_hook(lambda _, inputs: seen.append(_averaged(inputs[0])))
    try:
        with evaluation_mode(module):
            _through(module, images)
    finally:
        hook.remove()
    return torch.cat(seen)


def _averaged(features: Tensor) -> Tensor:
    return features.flatten(2).mean(2) if features.ndim > 2 else features


def _fit(head: ClassifierHead, features: Tensor, labels: Tensor) -> None:
    wanted = SPAN * nn.functional.one_hot(labels, head.classes).to(features.dtype)
    centre, mean = features.mean(0), wanted.mean(0)
    rows = features - centre
    gram = rows @ rows.T
    ridge = RIDGE * gram.diagonal().mean() * torch.eye(len(gram))
    weight = torch.linalg.solve(gram + ridge, wanted - mean).T @ rows
    head.layer.weight.copy_(weight.view_as(head.layer.weight))
    if head.layer.bias is not None:
        head.layer.bias.copy_(mean - weight @ centre)

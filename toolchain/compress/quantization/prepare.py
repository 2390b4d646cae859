"""Prepares a model for quantization-aware training: layers quantized in place, additions replaced, quantizers attached.

Quantizers are placed where OpenVINO and NNCF place them, so that an engine runs integers from end to end: at the input
of every convolution and linear layer, and at both operands of every addition of two feature maps; consumers of the very
same tensor share one. Additions are found by tracing each container's own forward(); submodules keep their names. Knows
no losses.
"""

import logging
import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn

from toolchain.compress.quantization.fake_quantize import ActivationQuantizer
from toolchain.compress.quantization.fold_batchnorm import fold_batch_norms
from toolchain.compress.quantization.quantized_layers import (
    QUANTIZER_SLOTS,
    QuantizedAdd,
    QuantizedConv2d,
    QuantizedLinear,
    quantize_layer,
)
from toolchain.compress.step import LearnedQuantization
from toolchain.errors import RecipeError
from toolchain.models.eval_mode import evaluation_mode, temporary_hooks

logger = logging.getLogger(__name__)


ADDITIONS = (operator.add, operator.iadd, torch.add)
END_BITS = 8  # for the first and the last layer


def prepare_qat(
    module: nn.Module,
    learned: LearnedQuantization,
    keep_ends: bool,
    learned_scales: bool,
    image: Tensor,
) -> nn.Module:
    """Quantize `module` in place: BatchNorms folded, quantizers attached but without ranges yet. Returns `module`, or
    its replacement when its own forward() contains additions. image: float32 [1, C, H, W]. RecipeError when there is
    nothing to quantize."""
    fold_batch_norms(module, image)
    layers = _layers_in_run_order(module, image)
    if not layers:
        raise RecipeError("nothing to quantize: the model runs no Conv2d and no Linear layer")
    ends = (layers[0], layers[-1]) if keep_ends else ()
    for layer in layers:
        bits = max(learned.weight_bits, END_BITS) if any(layer is end for end in ends) else learned.weight_bits
        quantize_layer(layer, bits, learned_scales, learned.full_range)
    if learned.activation_bits is None:
        return module
    module = _quantize_additions(module)
    _attach_quantizers(module, image, lambda: ActivationQuantizer(learned_scales, learned.symmetric))
    return module


def _layers_in_run_order(module: nn.Module, image: Tensor) -> list[nn.Conv2d | nn.Linear]:
    """Convolutions and linear layers in the order of their first run; subclasses are left alone."""
    ran: dict[nn.Conv2d | nn.Linear, None] = {}
    hooks = [
        layer.register_forward_pre_hook(lambda layer, _: ran.setdefault(layer))
        for layer in module.modules()
        if type(layer) in (nn.Conv2d, nn.Linear)
    ]
    with temporary_hooks(hooks), evaluation_mode(module), torch.no_grad():
        module(image)
    return list(ran)


def _quantize_additions(module: nn.Module) -> nn.Module:
    """Replace every container whose own forward() adds two tensors by one that calls a QuantizedAdd instead."""
    names = sorted(
        (name for name, container in module.named_modules() if _has_own_forward(container)),
        key=lambda name: -name.count("."),
    )
    for name in (*(inner for inner in names if inner), ""):
        container = module.get_submodule(name)
        if not _has_own_forward(container):
            continue
        replaced = _replace_additions(container, name or "the model")
        if replaced is not None and name:
            module.set_submodule(name, replaced)
        elif replaced is not None:
            module = replaced
    return module


def _has_own_forward(container: nn.Module) -> bool:
    """Whether it is a container with a forward() of its own; torch's containers are plain sequences, or have opaque
    parts."""
    return any(True for _ in container.children()) and not type(container).__module__.startswith(
        ("torch.nn.", "torch.ao.")
    )


class _ShallowTracer(fx.Tracer):
    """Traces a single forward(); every submodule call stays a call."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:  # noqa: ARG002  # torch.fx's signature
        return True


def _replace_additions(container: nn.Module, name: str) -> nn.Module | None:
    """The container with its additions replaced; None when there are none, or tracing fails."""
    with evaluation_mode(container):
        try:
            graph = _ShallowTracer().trace(container)
        except Exception as error:  # a forward() may raise anything when called with a proxy
            first = str(error).splitlines()[0] if str(error) else type(error).__name__
            logger.info(f"qat: {name}: not traced ({first}); its additions stay in float")
            return None
    nodes = [node for node in graph.nodes if _is_addition(node)]
    if not nodes:
        return None
    for number, node in enumerate(nodes, 1):
        target = f"quantized_add_{number}"
        container.add_module(target, QuantizedAdd())
        with graph.inserting_before(node):
            node.replace_all_uses_with(graph.call_module(target, (node.args[0], node.args[1])))
        graph.erase_node(node)
    traced = fx.GraphModule(container, graph, type(container).__name__)
    return traced.train(container.training)


def _is_addition(node: fx.Node) -> bool:
    named = node.op == "call_function" and node.target in ADDITIONS
    called = node.op == "call_method" and node.target in ("add", "add_")
    both = len(node.args) == 2 and all(isinstance(operand, fx.Node) for operand in node.args)
    return (named or called) and both and not node.kwargs


def _attach_quantizers(module: nn.Module, image: Tensor, new: Callable[[], ActivationQuantizer]) -> None:
    """Attach a quantizer to every distinct tensor that a quantized layer consumes, except to sums of anything but two
    feature maps."""
    quantizers: dict[tuple[int, int], ActivationQuantizer] = {}
    kept: list[Tensor] = []  # keeps tensors alive, since ids are reused

    def give(layer: Any, tensors: tuple[Tensor, ...]) -> None:
        shapes = {tensor.shape for tensor in tensors}
        if isinstance(layer, QuantizedAdd) and (len(shapes) > 1 or tensors[0].ndim != 4):
            return
        for slot, tensor in zip(QUANTIZER_SLOTS[type(layer)], tensors, strict=True):
            if getattr(layer, slot) is None:
                quantizer = quantizers.setdefault((id(tensor), tensor._version), new())
                quantizer.observing = True
                setattr(layer, slot, quantizer)
            kept.append(tensor)

    kinds = (QuantizedConv2d, QuantizedLinear, QuantizedAdd)
    hooks = [layer.register_forward_pre_hook(give) for layer in module.modules() if isinstance(layer, kinds)]
    with temporary_hooks(hooks), evaluation_mode(module), torch.no_grad():
        module(image)
    for quantizer in quantizers.values():
        quantizer.finish_observing()

"""What a model's outputs say: which activation it ends in itself, and what the recipe and the data make of it."""

from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from toolchain.errors import ModelError
from toolchain.models.eval_mode import evaluation_mode
from toolchain.records.output import Activation, OutputKind
from toolchain.records.tensors import Preprocessing

TORCH_ACTIVATIONS: dict[str, Activation] = {
    "aten._softmax": "softmax",
    "aten.sigmoid": "sigmoid",
    "aten.sigmoid_": "sigmoid",
}
TORCH_COPIES = ("aten.clone", "aten._to_copy")
ONNX_ACTIVATIONS: dict[str, Activation] = {"Softmax": "softmax", "Sigmoid": "sigmoid"}
ONNX_COPIES = (
    *("Identity", "Cast", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose"),
    *("QuantizeLinear", "DequantizeLinear"),
)


class _ActivationTracer(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves it untyped
    """Remembers, by the memory that holds it, which tensor an activation has made; what overwrites it is forgotten."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # as above
        self.made: dict[int, Activation | None] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result, name = func(*args, **(kwargs or {})), str(func.overloadpacket)
        for tensor in result if isinstance(result, tuple | list) else (result,):
            if isinstance(tensor, Tensor) and not func.is_view:
                source = self.of(args[0]) if name in TORCH_COPIES else None
                self.made[_place(tensor)] = TORCH_ACTIVATIONS.get(name, source)
        return result

    def of(self, tensor: Tensor) -> Activation | None:
        return self.made.get(_place(tensor))


def _place(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def module_activation(module: nn.Module, preprocessing: Preprocessing) -> Activation | None:
    """The activation whose result `module` returns; None where it returns scores. It has been checked (check.py)."""
    height, width, channels = preprocessing.shape
    tracer = _ActivationTracer()
    with evaluation_mode(module), torch.no_grad(), tracer:
        return tracer.of(module(torch.zeros(2, channels, height, width)))


def graph_activation(path: Path, output: str) -> Activation | None:
    """The activation whose result `output` of an ONNX file is; None where it is scores (or their logarithmic
    softmax, of which softmax makes the probabilities)."""
    graph = onnx.load(path, load_external_data=False).graph
    makers = {output: node for node in graph.node for output in node.output}
    node = makers.get(output)
    while node is not None and node.op_type in ONNX_COPIES:
        node = makers.get(node.input[0])
    return None if node is None else ONNX_ACTIVATIONS.get(node.op_type)


def default_outputs(activation: Activation | None, classes: int, multilabel: bool) -> int:
    """How many outputs a new head gets: one for two classes by sigmoid, else one for each class."""
    return 1 if activation == "sigmoid" and classes == 2 and not multilabel else classes


def resolve_output(
    declared: Activation | None, inside: Activation | None, outputs: int, multilabel: bool, source: str
) -> OutputKind:
    """What the outputs say. declared: by the recipe; inside: what the model ends in; multilabel: the data gives an
    image several labels. ModelError where these contradict each other, or where the answer could only be one."""
    activation = declared or inside or ("sigmoid" if multilabel else "softmax")
    if inside is not None and activation not in (inside, "logits"):
        raise ModelError(
            f'{source}: ends in a {inside}, but the recipe has output = "{activation}"; write output = "{inside}" '
            "under [model], or let the model return what it computes before that"
        )
    if multilabel and activation != "sigmoid":
        raise ModelError(
            f"{source}: answers one class an image ({activation}), but the data gives images several labels; write "
            'output = "sigmoid" under [model], for a model that was trained with a sigmoid for each label'
        )
    if multilabel and outputs == 1:
        raise ModelError(f"{source}: one output, but the data has several labels; expected an output for each label")
    if outputs == 1 and activation != "sigmoid":
        raise ModelError(
            f"{source}: one output, which by {activation} gives every image the same class; if it is the logit of the "
            'second of two classes, write output = "sigmoid" under [model]; else give the model one output per class'
        )
    return OutputKind(activation, inside == activation)

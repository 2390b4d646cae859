from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper
from torch import nn

from toolchain.errors import ModelError
from toolchain.models.output_kind import default_outputs, graph_activation, module_activation, resolve_output
from toolchain.records.output import Activation, OutputKind
from toolchain.records.tensors import Preprocessing

SHAPE = Preprocessing(4, 4, 3)


def net(*end: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(48, 3), *end).eval()


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        (net(), None),
        (net(nn.Softmax(1)), "softmax"),
        (net(nn.Sigmoid(), nn.Unflatten(1, (3, 1)), nn.Flatten()), "sigmoid"),
        (net(nn.LogSoftmax(1)), None),
        (nn.Sequential(net(nn.Softmax(1)), nn.Linear(3, 3)), None),  # inside, but not at the end
    ],
)
def test_a_module_ends_in_what_made_its_answer(module: nn.Module, expected: str | None) -> None:
    assert module_activation(module, SHAPE) == expected


@pytest.mark.parametrize(
    ("end", "expected"), [(["Softmax", "Identity"], "softmax"), (["Sigmoid"], "sigmoid"), (["Relu"], None), ([], None)]
)
def test_a_graph_ends_in_what_made_its_output(tmp_path: Path, end: list[str], expected: str | None) -> None:
    names = ["x", *(f"t{number}" for number in range(len(end)))]
    nodes = [helper.make_node(kind, [names[at]], [names[at + 1]]) for at, kind in enumerate(end)]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3]) for name in ("x", names[-1])]
    onnx.save(helper.make_model(helper.make_graph(nodes, "g", values[:1], values[1:])), tmp_path / "m.onnx")
    assert graph_activation(tmp_path / "m.onnx", names[-1]) == expected


def test_what_is_declared_agrees_with_what_the_model_ends_in() -> None:
    assert resolve_output(None, None, 4, False, "m") == OutputKind("softmax", False)
    assert resolve_output(None, "sigmoid", 1, False, "m") == OutputKind("sigmoid", True)
    assert resolve_output(None, None, 3, True, "m") == OutputKind("sigmoid", False)
    assert resolve_output("logits", "softmax", 3, False, "m") == OutputKind("logits", False)


@pytest.mark.parametrize(
    ("declared", "inside", "outputs", "multilabel", "message"),
    [
        (None, None, 1, False, 'one output, which by softmax gives every image the same class.*output = "sigmoid"'),
        ("logits", None, 1, False, "one output, which by logits gives every image the same class"),
        ("sigmoid", "softmax", 3, False, 'm: ends in a softmax.*write output = "softmax"'),
        ("softmax", None, 3, True, 'the data gives images several labels; write output = "sigmoid"'),
        (None, None, 1, True, "one output, but the data has several labels"),
    ],
)
def test_a_head_that_cannot_answer_is_refused_with_what_to_write(
    declared: Activation | None, inside: Activation | None, outputs: int, multilabel: bool, message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        resolve_output(declared, inside, outputs, multilabel, "m")


def test_two_classes_by_sigmoid_take_one_output() -> None:
    assert [default_outputs("sigmoid", 2, many) for many in (False, True)] == [1, 2]
    assert default_outputs("softmax", 2, False) == default_outputs(None, 2, False) == 2

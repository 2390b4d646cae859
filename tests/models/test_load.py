"""Every kind of source loaded for real, and every way in which one does not fit."""

import pickle
import zipfile
from copy import deepcopy
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import save_file
from torch import nn
from torchvision import models

from tests.models import nets
from toolchain.errors import ModelError
from toolchain.models import LoadedModel, load_model
from toolchain.recipe import ModelSpec
from toolchain.records.tensors import Preprocessing

HERE, SHAPE = Path(__file__).parent, Preprocessing(16, 20)
ZOO = "torchvision:squeezenet1_1"


def load(source: str, weights: str = "own", classes: int = 5, base: Path = HERE, **more: Any) -> LoadedModel:
    kept = {key: more.pop(key) for key in ("labels", "options") if key in more}
    return load_model(ModelSpec(source, weights, **kept), more.pop("shape", SHAPE), classes, base, **more)


def refused(*arguments: Any, **more: Any) -> str:
    with pytest.raises(ModelError) as caught:
        load(*arguments, **more)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_users_function_is_built_in_eval_mode_with_its_options() -> None:
    loaded = load("nets.py:net", classes=7, options={"classes": 7})
    assert (loaded.description, loaded.head_fits, loaded.onnx) == ("nets.py:net", True, None)
    module = loaded.require_module()
    assert not module.training
    with pytest.raises(ModelError, match="a torch module, not an ONNX file"):
        loaded.require_graph()


def test_a_users_module_can_be_pickled_and_random_weights_are_the_same_each_time() -> None:
    module = load("nets.py:net", "random").require_module()
    again = pickle.loads(pickle.dumps(module))
    other = load("nets.py:net", "random").require_module()
    assert torch.equal(again.fc.weight, other.fc.weight)
    assert not torch.equal(again.fc.weight, load("nets.py:net", "random", seed=1).require_module().fc.weight)


def test_what_is_wrong_with_a_users_file_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "syntax.py").write_text("x = 1\ndef f(:\n")
    (tmp_path / "missing.py").write_text("import not_installed_anywhere\n")
    assert f"{tmp_path}/syntax.py:2: cannot be imported: SyntaxError" in refused("syntax.py:f", base=tmp_path)
    assert f"{tmp_path}/missing.py:1: cannot be imported: ModuleNotFoundError" in refused("missing.py:f", base=tmp_path)
    assert "no such file; model.source expects" in refused("nowhere.py:f", base=tmp_path)
    assert "nets.py:30: broken() failed: RuntimeError: no such thing" in refused("nets.py:broken")
    assert "no function 'nett'; it has: Net, Pair, broken" in refused("nets.py:nett")
    assert "model.options: got an unexpected keyword argument 'width'" in refused("nets.py:net", options={"width": 2})
    assert "nets.py:number returned int; expected a torch.nn.Module" in refused("nets.py:number")
    assert "expected torchvision:NAME, cifar:NAME, file.py:function, file.pt2 or file.onnx" in refused("resnet50")


def test_files_beside_a_users_file_can_be_imported(tmp_path: Path) -> None:
    (tmp_path / "layers_of_mine.py").write_text("from torch import nn\nclass Head(nn.Linear):\n    pass\n")
    text = "from torch.nn import Flatten, Sequential\nfrom layers_of_mine import Head\n"
    text += "def f():\n    return Sequential(Flatten(), Head(960, 5))\n"
    (tmp_path / "mine.py").write_text(text)
    assert load("mine.py:f", base=tmp_path).head_fits


def test_weights_that_are_not_finite_are_named_and_counted() -> None:
    text = refused("nets.py:infinite")
    assert "'conv.bias' has 1 NaN or infinite of 4 values (2 such tensors)" in text


def test_a_class_count_that_differs_from_the_datas_names_both() -> None:
    text = refused("nets.py:net", classes=10)
    assert text.startswith("nets.py:net: 5 classes, but the data has 10")
    assert "finetune = { replace_head = true }" in text
    assert not load("nets.py:net", classes=10, allow_other_head=True).head_fits


def test_an_input_that_does_not_fit_names_the_layer() -> None:
    text = refused("nets.py:net", shape=Preprocessing(16, 20, 1))
    assert "fails on an input of float32 [2, 1, 16, 20] in layer 'conv': RuntimeError: Given groups=1" in text


def test_several_outputs_are_refused() -> None:
    assert "returns a tuple; expected one tensor of logits" in refused("nets.py:pair")


def test_a_state_dict_comes_from_either_format_and_wrappers_are_named(tmp_path: Path) -> None:
    state = nets.net().state_dict()
    save_file(state, tmp_path / "w.safetensors")
    torch.save({"epoch": 3, "state_dict": {f"module.{key}": value for key, value in state.items()}}, tmp_path / "w.pt")
    source = str(HERE / "nets.py:net")
    plain, wrapped = load(source, "w.safetensors", base=tmp_path), load(source, "w.pt", base=tmp_path)
    assert plain.description == "nets.py:net (w.safetensors)"
    assert wrapped.description == "nets.py:net (w.pt; 'state_dict' unwrapped; 'module.' stripped)"
    for loaded in (plain, wrapped):
        assert torch.equal(loaded.require_module().state_dict()["fc.weight"], state["fc.weight"])


def test_a_checkpoint_that_does_not_fit_names_the_keys(tmp_path: Path) -> None:
    state = nets.net().state_dict()
    state["fc.weights"] = state.pop("fc.weight")
    state["conv.bias"] = torch.zeros(9)
    torch.save(state, tmp_path / "w.pt")
    text = refused(str(HERE / "nets.py:net"), "w.pt", base=tmp_path)
    assert "does not fit nets.py:net: 1 missing: 'fc.weight' (nearest: 'fc.weights')" in text
    assert "1 unexpected: 'fc.weights'; 1 other shape: 'conv.bias' [9], model [4]" in text


def test_weights_that_cannot_be_there_are_refused(tmp_path: Path) -> None:
    source = str(HERE / "nets.py:net")
    assert "no such file; model.weights expects official, random, own, or a" in refused(source, "w.bin", base=tmp_path)
    assert "there are no official weights for a user's own model" in refused(source, "official", base=tmp_path)


def test_a_zoo_network_is_built_for_the_datas_classes() -> None:
    loaded = load(ZOO, "random", 7, shape=Preprocessing(40, 40))
    assert (loaded.description, loaded.head_fits) == (f"{ZOO} (random weights)", True)
    assert "the nearest are: resnet50" in refused("torchvision:resnet5", "random")
    assert "no official weights 'IMAGENET1K_V9'; there are: official, IMAGENET1K_V1" in refused(ZOO, "IMAGENET1K_V9")
    assert "name the weights" in refused(ZOO)


def test_official_weights_that_cannot_be_fetched_say_where_they_are(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for name in ("http_proxy", "https_proxy", "HTTPS_PROXY", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    text = refused(ZOO, "official", 1000, shape=Preprocessing(40, 40))
    assert "could not be downloaded from https://download.pytorch.org/models/squeezenet1_1-" in text
    assert 'model.weights = "path/to/file.pth"' in text


def test_a_zoo_checkpoint_with_another_head_needs_a_step_that_replaces_it(tmp_path: Path) -> None:
    torch.save(models.squeezenet1_1(num_classes=12).state_dict(), tmp_path / "w.pth")
    shape = Preprocessing(40, 40)
    text = refused(ZOO, "w.pth", 7, tmp_path, shape=shape)
    assert "w.pth: 12 classes, but the data has 7" in text
    loaded = load(ZOO, "w.pth", 7, tmp_path, shape=shape, allow_other_head=True)
    assert not loaded.head_fits
    assert loaded.require_module()(torch.zeros(1, 3, 40, 40)).shape == (1, 12)


def test_auxiliary_heads_are_left_out(tmp_path: Path) -> None:
    state = models.googlenet(weights=None, num_classes=6, aux_logits=True, init_weights=False).state_dict()
    torch.save(state, tmp_path / "w.pth")
    loaded = load("torchvision:googlenet", "w.pth", 6, tmp_path, shape=Preprocessing(64, 64))
    assert loaded.description == "torchvision:googlenet (w.pth; auxiliary heads left out)"
    assert isinstance(loaded.require_module().train()(torch.zeros(2, 3, 64, 64)), torch.Tensor)


def test_labels_are_read_and_counted(tmp_path: Path) -> None:
    (tmp_path / "five.txt").write_text("a\nb\nc\nd\ne\n")
    (tmp_path / "two.txt").write_text("a\nb\n")
    assert load("nets.py:net", labels=str(tmp_path / "five.txt")).labels == ("a", "b", "c", "d", "e")
    assert "2 labels, but there are 5 classes" in refused("nets.py:net", labels=str(tmp_path / "two.txt"))
    assert "cannot be read" in refused("nets.py:net", labels=str(tmp_path / "none.txt"))


def test_labels_are_those_of_the_head_that_a_step_puts_in(tmp_path: Path) -> None:
    (tmp_path / "two.txt").write_text("cat\ndog\n")
    loaded = load("nets.py:net", classes=2, labels=str(tmp_path / "two.txt"), allow_other_head=True)
    assert (loaded.labels, loaded.head_fits) == (("cat", "dog"), False)
    (tmp_path / "five.txt").write_text("a\nb\nc\nd\ne\n")
    text = refused("nets.py:net", classes=2, labels=str(tmp_path / "five.txt"), allow_other_head=True)
    assert text.endswith("five.txt: 5 labels, but there are 2 classes; expected one label per line")


def exported(module: nn.Module, path: Path, free: bool = True) -> None:
    free_batch = ({0: torch.export.Dim("batch")},) if free else None
    torch.export.save(torch.export.export(module, (torch.zeros(2, 3, 16, 20),), dynamic_shapes=free_batch), path)


class Evil:
    """A pickle that makes a file when it is read."""

    def __init__(self, made: Path) -> None:
        self.made = made

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.made,)


def with_code(source: Path, path: Path) -> None:
    """`source` with a pickle that runs code in the place of its example inputs."""
    buffer = BytesIO()
    torch.save((Evil(path.parent / "ran"),), buffer)
    with zipfile.ZipFile(source) as program, zipfile.ZipFile(path, "w") as archive:
        for name in program.namelist():
            archive.writestr(name, buffer.getvalue() if "sample_inputs" in name else program.read(name))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_an_exported_program_answers_and_can_be_copied(tmp_path: Path) -> None:
    module = nets.net().eval()
    exported(module, tmp_path / "m.pt2")
    loaded = load("m.pt2", base=tmp_path)
    assert loaded.description == "m.pt2 (torch.export program)"
    program, x = loaded.require_module(), torch.randn(3, 3, 16, 20)
    for one in (program.train(), deepcopy(program), pickle.loads(pickle.dumps(program))):
        assert torch.equal(one.eval()(x), program(x))
    assert torch.allclose(program(x), module(x), atol=1e-6)
    exported(nets.net().train(), tmp_path / "train.pt2")
    assert "was exported in training mode (aten.batch_norm.default)" in refused("train.pt2", base=tmp_path)
    assert "remove model.weights and model.options" in refused("m.pt2", "random", base=tmp_path)
    (tmp_path / "junk.pt2").write_bytes(b"junk")
    with_code(tmp_path / "m.pt2", tmp_path / "evil.pt2")
    assert "torch.export cannot read it" in refused("evil.pt2", base=tmp_path)
    assert not (tmp_path / "ran").exists()
    assert "not a complete torch.export program" in refused("junk.pt2", base=tmp_path)


def graph(path: Path, weights: np.ndarray) -> None:
    nodes = [helper.make_node("Flatten", ["x"], ["f"]), helper.make_node("MatMul", ["f", "w"], ["y"])]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 3, 16, 20])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, weights.shape[1]])]
    stored = [numpy_helper.from_array(weights, "w")]
    made = helper.make_graph(nodes, "g", inputs, outputs, stored)
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def test_an_onnx_file_is_checked_and_enters_after_export(tmp_path: Path) -> None:
    weights = np.ones((960, 5), np.float32)
    graph(tmp_path / "m.onnx", weights)
    loaded = load("m.onnx", base=tmp_path)
    assert (loaded.module, loaded.require_graph().path) == (None, tmp_path / "m.onnx")
    with pytest.raises(ModelError, match="only quantize works on it"):
        loaded.require_module()
    assert "m.onnx (ONNX): 5 classes, but the data has 9" in refused("m.onnx", classes=9, base=tmp_path)
    weights[3, 2] = np.nan
    graph(tmp_path / "nan.onnx", weights)
    assert "weights that are not finite: 'w'" in refused("nan.onnx", base=tmp_path)
    (tmp_path / "junk.onnx").write_bytes(b"junk" * 9)
    assert "not a valid ONNX model" in refused("junk.onnx", base=tmp_path)
    assert "no such file" in refused("none.onnx", base=tmp_path)

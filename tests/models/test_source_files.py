"""Which files a cache must look at to know that a model is unchanged."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from toolchain.models import source_files, user_file
from toolchain.recipe import ModelSpec


def names(folder: Path, spec: ModelSpec) -> list[str]:
    return [str(path.relative_to(folder)) for path in source_files(spec, folder)]


def written(folder: Path, *files: str) -> None:
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text("")


def test_ones_own_file_brings_what_it_may_import(tmp_path: Path) -> None:
    written(tmp_path, "nets.py", "other.py", "parts/__init__.py", "parts/deep/block.py", "venv/lib.py", "w.pt", "l.txt")
    spec = ModelSpec("nets.py:net", "w.pt", "l.txt")
    assert names(tmp_path, spec) == ["l.txt", "nets.py", "other.py", "parts/__init__.py", "parts/deep/block.py", "w.pt"]
    assert user_file(spec, tmp_path) == tmp_path / "nets.py"


def test_a_model_by_name_has_no_files_but_its_checkpoint(tmp_path: Path) -> None:
    written(tmp_path, "w.pt")
    assert names(tmp_path, ModelSpec("torchvision:resnet18", "w.pt")) == ["w.pt"]
    assert names(tmp_path, ModelSpec("torchvision:resnet18", "official")) == []
    assert user_file(ModelSpec("torchvision:resnet18"), tmp_path) is None


def test_weights_beside_an_onnx_file_count(tmp_path: Path) -> None:
    stored = numpy_helper.from_array(np.zeros((64, 64), np.float32), "w")
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 64])
    answer = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 64])
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", [value], [answer], [stored])
    model = helper.make_model(graph)
    onnx.save(model, tmp_path / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=0)
    assert names(tmp_path, ModelSpec("m.onnx")) == ["m.data", "m.onnx"]
    (tmp_path / "m.onnx").write_bytes(b"junk")
    assert names(tmp_path, ModelSpec("m.onnx")) == ["m.onnx"]

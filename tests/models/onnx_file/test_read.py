"""Files that are no model, of unknown versions, incomplete, or broken: one line each."""

from pathlib import Path

import onnx
import pytest

from tests.models.onnx_file.drawn import draw
from toolchain.errors import ModelError
from toolchain.models.onnx_file.read import newest_versions, read_onnx


def refusal(path: Path) -> str:
    with pytest.raises(ModelError) as caught:
        read_onnx(path)
    assert "\n" not in str(caught.value)
    return str(caught.value).removeprefix(f"{path}: ")


def test_every_version_up_to_the_newest_is_taken_and_the_line_names_it(tmp_path: Path) -> None:
    ir, opset = newest_versions()
    for each in range(7, opset + 1):
        draw(tmp_path / "m.onnx", opset=each, ir=3 if each == 7 else ir)
        assert read_onnx(tmp_path / "m.onnx").opset_import[0].version == each
    text = refusal(draw(tmp_path / "m.onnx", opset=99))
    assert text == f"opset 99; the newest that is taken is {opset}; export it with opset_version={opset}"
    assert refusal(draw(tmp_path / "m.onnx", opset=6)).startswith(f"opset 6, expected 7 to {opset}; ")
    assert refusal(draw(tmp_path / "m.onnx", ir=99)).startswith(
        f"ONNX IR version 99; the newest that is taken is {ir}; "
    )


def test_weights_in_another_file_are_read_and_a_missing_file_is_named(tmp_path: Path) -> None:
    path, whole = tmp_path / "m.onnx", draw(tmp_path / "whole.onnx")
    onnx.save(onnx.load(whole), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    assert read_onnx(path).graph.initializer[0].raw_data == onnx.load(whole).graph.initializer[0].raw_data
    (tmp_path / "weights.bin").unlink()
    assert refusal(path) == (
        f"its weights are in weights.bin, which is not in {tmp_path}; put it there, or save the model as one file"
    )


def test_what_is_no_onnx_file_is_refused(tmp_path: Path) -> None:
    for content in (b"", b"junk" * 9):
        (tmp_path / "m.onnx").write_bytes(content)
        assert refusal(tmp_path / "m.onnx").startswith("not a valid ONNX model (")

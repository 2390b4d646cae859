"""What a build refuses before any work, and what its cache looks at: a real recipe on forty small pictures."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.pictures import write_pictures
from toolchain.build.pipeline import build
from toolchain.build.trained_model import model_inputs
from toolchain.data import Split
from toolchain.errors import DataError, RecipeError
from toolchain.job.job import BuildJob, read_job
from toolchain.job.samples import check_golden
from toolchain.records.manifest import Manifest
from toolchain.workflows.evaluate import evaluate_accuracy

NETS = """
from pathlib import Path

import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 8, 3), nn.Linear(8, 4)

    def forward(self, x):
        return self.head(self.conv(x).relu().mean((2, 3)))

def net():
    made = Net()
    if (kept := Path(__file__).with_name("kept.pt")).is_file():
        made.load_state_dict(torch.load(kept, weights_only=True))
    return made
"""
RECIPE = """
name = "small"
[model]
source = "nets.py:net"
[input]
height = 8
width = 8
[data]
name = "folder"
path = "pictures"
"""
QUANTIZE = "[[step]]\nquantize = { samples = 8 }\n"


def make_folder(place: Path, patch: pytest.MonkeyPatch) -> Path:
    """Four classes of ten random pictures, and a net with random weights."""
    patch.setenv("TOOLCHAIN_HOME", str(place / "home"))
    write_pictures(place, 8)
    (place / "nets.py").write_text(NETS)
    return place


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return make_folder(tmp_path, monkeypatch)


def recipe(folder: Path, more: str = "", text: str = RECIPE) -> Path:
    (folder / "small.toml").write_text(text + more)
    return folder / "small.toml"


def read(place: Path, target: str = "onnxruntime") -> BuildJob:
    return read_job(place, target)


def built(place: Path, target: str) -> Manifest:
    return build(place, target, None).manifest


@pytest.mark.parametrize("suffix", [".pt2", ".onnx"])
def test_a_finished_graph_is_neither_trained_nor_pruned(folder: Path, suffix: str) -> None:
    text = RECIPE.replace("nets.py:net", f"net{suffix}")
    with pytest.raises(
        RecipeError, match=r"on which only quantize and quantize_weights work, not finetune; give the model"
    ):
        read(recipe(folder, "[[step]]\nfinetune = {}\n" + QUANTIZE, text))


def test_data_that_is_nothing_but_a_test_part_is_refused_before_the_work(folder: Path) -> None:
    data = read(recipe(folder)).data
    check_golden(data)
    nothing = Split(data.split("train").images, data.split("train").labels[:0], data.split("train").indices[:0])
    bare = replace(data, splits={**data.splits, "train": nothing, "validate": nothing})
    with pytest.raises(DataError, match=r"folder: no images beside its test split, .* name another data set: \[calibr"):
        check_golden(bare)


def test_a_quantize_step_that_the_target_cannot_use_is_told(folder: Path, messages: list[str]) -> None:
    read(recipe(folder, QUANTIZE + '[build]\nprecisions = ["fp32"]\n'))
    assert "onnxruntime: no int8 among its precisions; the quantize step is not used" in messages
    read(recipe(folder, "[[step]]\nquantize_weights = { bits = 4 }\n"))
    assert (
        "onnxruntime: no int4w among its precisions (ONNX Runtime has no convolution with such weights; "
        "--target=openvino stores them); the quantize_weights step is not used"
    ) in messages
    read(recipe(folder, "[[step]]\nquantize = { dynamic = true }\n"), "openvino")
    assert messages[-1].startswith(
        "openvino: no int8d among its precisions (OpenVINO's CPU plugin has no convolution with ranges "
    )


def test_an_option_of_a_target_is_its_own(folder: Path) -> None:
    for more, error in (
        (
            "[target.nil]\ndelay_ms = 1\n",
            r"\[target.nil\]: no such target; there are: openvino, tensorrt, onnxruntime, null",
        ),
        ("[target.null]\ndelay = 1\n", r"\[target.null\]: no option `delay`; it has: delay_ms"),
        ("[target.openvino]\ndelay_ms = 1\n", r"\[target.openvino\]: no option `delay_ms`; it has: full_range"),
        ("[target.null]\ndelay_ms = -1\n", r"target\[...\]\[...\]: expected `float` >= 0.0"),
    ):
        with pytest.raises(RecipeError, match=error):
            read(recipe(folder, more))


def test_a_null_release_takes_as_long_as_its_recipe_says(folder: Path) -> None:
    plain, slow = (built(recipe(folder, f"[target.null]\ndelay_ms = {delay}\n"), "null") for delay in (0, 4))
    assert [one.serving.options["delay_ms"] for one in (plain, slow)] == [0.0, 4.0]
    assert slow.serving.latency_ms is not None and slow.serving.latency_ms >= 4
    assert plain.release != slow.release


def test_more_calibration_pictures_than_there_are_is_refused_where_int8_is_built(folder: Path) -> None:
    place = recipe(folder, "[[step]]\nquantize = { samples = 300 }\n")
    for target in ("openvino", "onnxruntime"):
        with pytest.raises(DataError, match="300 calibration samples were asked for"):
            read(place, target)
    read(recipe(folder, "[[step]]\nquantize = { samples = 300 }\n[build]\nprecisions = ['fp32']\n"))


def test_the_cache_sees_labels_and_weights_that_ones_own_function_reads(folder: Path) -> None:
    (folder / "labels.txt").write_text("a\nb\nc\nd\n")
    place = recipe(folder, text=RECIPE.replace('net"', 'net"\nlabels = "labels.txt"'))
    first = model_inputs(read(place))
    assert model_inputs(read(place)) == first
    (folder / "labels.txt").write_text("b\na\nc\nd\n")
    second = model_inputs(read(place))
    assert second["files"] != first["files"]
    torch.manual_seed(1)
    saved = {"conv.weight": torch.randn(8, 3, 3, 3), "conv.bias": torch.randn(8)}
    torch.save({**saved, "head.weight": torch.randn(4, 8), "head.bias": torch.randn(4)}, folder / "kept.pt")
    third = model_inputs(read(place))
    assert third["files"] == second["files"]
    assert third["weights"] != second["weights"]


def test_a_head_that_is_to_be_replaced_is_another_model_to_the_cache(folder: Path) -> None:
    """The same file with nine classes is refused when no step replaces the head any more."""
    plain = model_inputs(read(recipe(folder)))
    replacing = read(recipe(folder, "[[step]]\nfinetune = { epochs = 1, replace_head = true }\n"))
    replaced = model_inputs(replacing)
    assert {key for key in plain if plain[key] != replaced[key]} == {"other_head"}


def test_an_unchanged_build_ends_with_the_same_bundle_by_whatever_path(
    folder: Path, monkeypatch: pytest.MonkeyPatch, messages: list[str]
) -> None:
    place = recipe(folder)
    first = build(place, "onnxruntime", None)
    assert str(folder).encode() not in (first.folder / "manifest.json").read_bytes()
    monkeypatch.chdir(folder)
    messages.clear()
    again = build(Path("small.toml"), "onnxruntime", None)
    assert (again.digest, again.manifest.release) == (first.digest, "1")
    assert len([line for line in messages if line.endswith(": unchanged")]) == 9
    assert [line for line in messages if line.endswith(" ...")] == [], "a stage that is made is announced so"


def test_the_null_engine_is_built_and_judged_by_its_timing_alone(folder: Path) -> None:
    manifest = built(recipe(folder, QUANTIZE), "null")
    assert manifest.choice == f"{manifest.chosen}: null computes nothing, timing alone counts"
    assert [one.precision for one in manifest.candidates] == ["fp32", "bf16", "int8"]
    assert manifest.accuracy is None
    assert all(row.candidate == "onnxruntime fp32" for row in manifest.parity)


def test_a_recipe_is_evaluated_whatever_precisions_it_builds(folder: Path) -> None:
    text = RECIPE.replace('net"', 'net"\nweights = "w.safetensors"')
    torch.manual_seed(2)
    state = {"conv.weight": torch.randn(8, 3, 3, 3), "conv.bias": torch.zeros(8), "head.bias": torch.zeros(4)}
    save_file({**state, "head.weight": torch.randn(4, 8)}, folder / "w.safetensors")
    found = evaluate_accuracy(str(recipe(folder, QUANTIZE + '[build]\nprecisions = ["bf16", "int8"]\n', text)), None)
    assert (found.of, found.images) == ("small.toml fp32 torch", 8)
    assert found.accuracy == found.right / 8

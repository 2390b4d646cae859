"""The step report of real builds: models of one convolution on forty small pictures."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.journeys.said import Said
from tests.pictures import write_pictures
from toolchain.build.peak_memory import peak_memory_of
from toolchain.build.pipeline import build
from toolchain.cli import COMMANDS
from toolchain.cli.parser import run
from toolchain.errors import RefusedError
from toolchain.records.manifest import Candidate

NETS = """
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.wide, self.head = nn.Conv2d(3, 64, 3), nn.Conv2d(64, 64, 3), nn.Linear(64, 4)

    def forward(self, x):
        return self.head(self.wide(self.conv(x).relu()).relu().mean((2, 3)))

def net():
    return Net()
"""
RECIPE = """
name = "{name}"
[model]
source = "nets.py:net"
weights = "random"
[input]
height = 16
width = 16
[data]
name = "folder"
path = "pictures"
"""
SPARSE = "[[step]]\nsparsify = {{ sparsity = 0.8 }}\n[[step]]\nfinetune = {{ epochs = 2, batch_size = 8{more} }}\n"
REFUSE = "[build]\nmax_accuracy_loss = 100\nrefuse = true\n"


def as_fast_as_each_other(callers: Mapping[str, Callable[[int], object]]) -> dict[str, float]:
    """Every engine answers, and no gain is measured: on a loaded machine a tenth comes and goes by itself."""
    return {name: 1.0 for name, call in callers.items() if call(0) is not None}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("toolchain.build.step_benchmark.in_turn_ms", as_fast_as_each_other)
    monkeypatch.setenv("TOOLCHAIN_HOME", str(tmp_path / "home"))
    write_pictures(tmp_path, 16)
    (tmp_path / "nets.py").write_text(NETS)
    return tmp_path


def recipe(folder: Path, name: str, more: str) -> Path:
    (folder / f"{name}.toml").write_text(RECIPE.format(name=name) + more)
    return folder / f"{name}.toml"


def typed(capfd: pytest.CaptureFixture[str], *words: object) -> Said:
    capfd.readouterr()
    return Said(run(COMMANDS, [str(word) for word in words]), *capfd.readouterr())


@pytest.mark.slow
def test_sparsity_without_a_sparse_kernel_is_refused_before_any_training(folder: Path, messages: list[str]) -> None:
    place = recipe(folder, "zeros", SPARSE.format(more="") + REFUSE)
    with pytest.raises(RefusedError) as refusal:
        build(place, "onnxruntime", None)
    assert str(refusal.value).startswith(
        f"{place}: step 1, sparsify: does not pay: unstructured sparsity: no sparse kernel in this engine ("
    )
    assert str(refusal.value).endswith("; change or remove the step, or set refuse = false under [build]")
    assert not [line for line in messages if line.startswith("step ")], "nothing was trained"
    assert "unstructured sparsity" in messages[-1]
    assert " 4.87 " in messages[-1], "what papers promise of four zeros in five"
    messages.clear()
    with pytest.raises(RefusedError):
        build(place, "onnxruntime", None)
    assert "steps: dry run timed on the target: unchanged" in messages


@pytest.mark.slow
def test_without_refuse_a_step_that_does_not_pay_is_only_reported(folder: Path) -> None:
    more = SPARSE.format(more="") + "[[step]]\nquantize = { samples = 8 }\n[build]\nmax_accuracy_loss = 100\n"
    steps = build(recipe(folder, "told", more), "onnxruntime", None).manifest.steps
    assert [step.step for step in steps] == ["model", "sparsify", "finetune", "quantize"]
    assert [step.precision for step in steps] == ["fp32", "fp32", "fp32", "int8"]
    assert steps[0].verdict == "original"
    assert steps[1].verdict.startswith("does not pay: unstructured sparsity: no sparse kernel in this engine")
    assert steps[2].verdict == "judged with step 1"
    assert steps[1].predicted_speedup == pytest.approx(5, rel=0.2)
    for step in steps:
        assert step.latency_ms is not None
        assert step.measured_speedup == pytest.approx((steps[0].latency_ms or 0) / step.latency_ms)
        assert step.accuracy is not None
        assert (step.artifact_bytes or 0) > 1000
        assert 1e7 < (step.memory_bytes or 0) < 1e10


@pytest.mark.slow
def test_several_recipes_are_compared_in_one_table_and_one_json_line(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Also one that says refuse = true: what it would refuse is shown."""
    zeros = recipe(folder, "zeros", SPARSE.format(more="") + REFUSE)
    plain = recipe(folder, "plain", "[build]\nmax_accuracy_loss = 100\n")
    output = typed(capfd, "compare", zeros, plain, "--target=onnxruntime")
    document = output.last
    assert document["target"] == "onnxruntime"
    assert [(recipe["name"], len(recipe["steps"])) for recipe in document["recipes"]] == [("zeros", 3), ("plain", 1)]
    assert document["recipes"][0]["steps"][1]["verdict"].startswith("does not pay: unstructured sparsity")
    assert "refuse = false" not in output.out
    lines = output.out.splitlines()
    assert lines[0].split()[:2] == ["recipe", "step"]
    assert json.loads(lines[-1]) == document
    again = typed(capfd, "compare", zeros, plain, "--target=onnxruntime")
    assert again.last == document
    assert "all rows in turn: latency, accuracy and memory on this machine: unchanged" in again.err


def test_recipes_that_cannot_be_compared_are_refused_before_any_work(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    plain = recipe(folder, "plain", "")
    assert typed(capfd, "compare", plain, folder / "no.toml").refusal(2).startswith(f"{folder}/no.toml: no recipe here")
    graph = folder / "graph.toml"
    graph.write_text(plain.read_text().replace("nets.py:net", "net.onnx").replace('"random"', '"own"'))
    (folder / "net.onnx").write_bytes(b"")  # that it is there is looked at before the recipes are compared
    refusal = typed(capfd, "compare", plain, graph).refusal(2)
    assert refusal == f"{graph}: model.source is an ONNX file, which has no steps to compare; use toolchain build"
    assert typed(capfd, "compare").refusal(2) == (
        "compare: name at least one recipe; usage: toolchain compare RECIPE..."
    )
    bad = recipe(folder, "bad", "[[step]]\nprune_channels = { ratio = 0.01 }\n")
    refusal = typed(capfd, "compare", plain, bad, "--target=onnxruntime").refusal(2)
    assert "bad.toml: step 1, prune_channels: " in refusal
    assert not (folder / "home" / "cache").exists() or not list((folder / "home" / "cache").glob("onnx-*"))


def test_measuring_the_memory_of_an_artifact_that_cannot_run_is_one_line(tmp_path: Path) -> None:
    candidate = Candidate("fp32", "onnxruntime", ("none.onnx",), 0)
    with pytest.raises(Exception, match="onnxruntime fp32: its memory cannot be measured: "):
        peak_memory_of(tmp_path, candidate, 1, (8, 8, 3))

"""`toolchain weights`: a compressed net out as a file, and another recipe that starts from it; small, and for real."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from tests.job.test_job import folder, recipe
from toolchain.build.pipeline import cache_for
from toolchain.build.trained_model import NET, load_staged, model_inputs, trained_model
from toolchain.cli import weights
from toolchain.cli.image import show
from toolchain.compress.distributed import distributed_context
from toolchain.compress.serialization import load_compressed
from toolchain.compress.step import CompressedModel
from toolchain.errors import ModelError, UsageError
from toolchain.job.distributed_stages import DistributedStageCache
from toolchain.job.job import read_job
from toolchain.records.storage import digest_of, encode_record
from toolchain.records.weights import Weights, read_metadata, read_weights
from toolchain.workflows.weights import write

__all__ = ["folder"]  # the fixture
PRUNE = "[[step]]\nprune_channels = { ratio = 0.5, round_to = 2 }\n"
TUNE = "[[step]]\nfinetune = { epochs = 1, samples = 16, batch_size = 8, augment = [] }\n"
SPARSE = "[[step]]\nsparsify = { sparsity = 0.5 }\n"
QUANTIZE = "[[step]]\nquantize = { samples = 8 }\n"
RANDOM = "\n[build]\nseed = 3\n"


def out(place: Path, step: int | None = None) -> Weights:
    file = place.with_name("w.safetensors")
    record, written = write(place, file, step, "onnxruntime")
    assert written.sha256 == digest_of(file)
    assert encode_record(read_weights(file)) == encode_record(record)
    return record


def started(place: Path) -> CompressedModel:
    """What another recipe's first step is given."""
    text = place.read_text().split("[[step]]")[0].replace('net"', 'net"\nweights = "w.safetensors"')
    place.with_name("next.toml").write_text(text)
    job = read_job(place.with_name("next.toml"), "onnxruntime")
    original = trained_model(job, DistributedStageCache(cache_for(job), distributed_context()), model_inputs(job))
    assert original is not None
    return load_staged(job, original)


def after(place: Path) -> nn.Module:
    """The net in the cache after the last step that changed it."""
    job = read_job(place, "onnxruntime")
    newest = max(cache_for(job).folder.glob(f"*/{NET}"), key=lambda path: path.stat().st_mtime)
    return load_compressed(newest).module


def same(module: nn.Module, other: nn.Module) -> bool:
    images = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return torch.allclose(module(images), other(images), atol=1e-5)


def test_a_pruned_net_is_written_and_another_recipe_starts_from_it(folder: Path) -> None:
    place = recipe(folder, PRUNE + TUNE)
    record = out(place)
    assert [step.step for step in record.steps] == ["prune_channels", "finetune"]
    assert (record.source, record.recipe, record.data, record.images) == ("nets.py:net", "small", "folder", 8)
    assert record.structure.layers["conv"] == {"out_channels": 4}
    assert (record.parameters, record.classes) == (4 * 27 + 4 + 4 * 4 + 4, 4)
    assert record.accuracy is not None
    assert record.command == "toolchain weights small.toml --out=w.safetensors"
    assert str(folder) not in json.dumps(read_metadata(folder / "w.safetensors"))
    assert same(started(place).module, after(place))


def test_zeros_stay_zeros_in_the_recipe_that_starts_from_them(folder: Path) -> None:
    place = recipe(folder, SPARSE)
    record, net = out(place), started(place)
    assert net.sparse == record.structure.sparse == ("conv.weight",)
    assert int((net.module.get_parameter("conv.weight") == 0).sum()) == 108


QAT = "[[step]]\nqat = { %s, epochs = 1, samples = 16, batch_size = 8, augment = [], calibration_samples = 8 }\n"


@pytest.mark.parametrize("how", ["weight_bits = 8", 'weight_bits = 4, scales = "running", activation_bits = 8'])
def test_a_pruned_and_quantization_aware_net_is_restored(folder: Path, how: str) -> None:
    nets = folder / "nets.py"
    adding = "x = self.conv(x).relu(); x = self.norm(self.more(x)) + x; return self.head(x.mean((2, 3)))"
    more = "self.conv, self.more, self.norm = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 1, bias=False), nn.BatchNorm2d(8); "
    text = nets.read_text().replace("return self.head(self.conv(x).relu().mean((2, 3)))", adding)
    nets.write_text(
        text.replace("self.conv, self.head = nn.Conv2d(3, 8, 3)", f"{more}self.head = ").replace("= , ", "= ")
    )
    place = recipe(folder, PRUNE + QAT % how)
    record = out(place)
    assert [step.step for step in record.steps] == ["prune_channels", "qat"]
    assert record.structure.learned is not None
    net = started(place)
    assert net.learned is not None
    assert (net.learned.weight_bits, net.learned.activation_bits) == (record.structure.learned.weight_bits, 8)
    assert same(net.module, after(place))
    kept = load_file(folder / "w.safetensors")["more.weight"]
    assert kept.dtype == (torch.int8 if "running" not in how else torch.float32)  # a running grid is its weights' own
    next_place = place.with_name("next.toml")
    assert read_job(next_place, "openvino").plan.learned == net.learned
    again, _ = write(next_place, folder / "again.safetensors", None, "onnxruntime")
    assert again.structure == record.structure


def test_quantized_weights_without_their_scales_are_refused(folder: Path) -> None:
    place, file = recipe(folder, QAT % "weight_bits = 4"), folder / "w.safetensors"
    out(place)
    state, metadata = load_file(file), read_metadata(file)
    state["conv.weight_quantizer.scale"] = state["conv.weight_quantizer.scale"][:2].clone()
    save_file(state, file, metadata)
    with pytest.raises(
        ModelError, match=r"no scales for the int8 weights of 'conv\.weight'; the file is damaged: write it"
    ):
        started(place)


def test_what_the_back_end_does_after_export_is_not_in_the_file(folder: Path) -> None:
    record = out(recipe(folder, PRUNE + QUANTIZE))
    assert [step.step for step in record.steps] == ["prune_channels"]


def test_a_second_run_repeats_no_work_and_writes_the_same_file(folder: Path, messages: list[str]) -> None:
    place = recipe(folder, PRUNE)
    out(place)
    first = digest_of(folder / "w.safetensors")
    messages.clear()
    out(place)
    assert digest_of(folder / "w.safetensors") == first
    assert all(line.endswith(": unchanged") for line in messages if not line.startswith(("data: ", "pictures: "))), (
        messages
    )


def test_an_earlier_step_is_written_on_request(folder: Path) -> None:
    place = recipe(folder, PRUNE + TUNE + QUANTIZE)
    assert [step.step for step in out(place, 1).steps] == ["prune_channels"]
    assert out(place, 0).steps == ()
    with pytest.raises(UsageError, match=r"--step=3: quantize is done by the back end, .* use --step=2 or omit --step"):
        out(place, 3)
    with pytest.raises(UsageError, match=r"--step=4: the recipe has: 1 prune_channels, 2 finetune, 3 quantize; 0 is"):
        out(place, 4)


def test_the_record_accumulates_steps_over_several_recipes(folder: Path) -> None:
    place = recipe(folder, PRUNE)
    out(place)
    started(place)
    again = place.with_name("next.toml")
    again.write_text(again.read_text() + SPARSE)
    record, _ = write(again, folder / "again.safetensors", None, "onnxruntime")
    assert [step.step for step in record.steps] == ["prune_channels", "sparsify"]
    assert record.structure.layers["conv"] == {"out_channels": 4}


def test_a_foreign_file_is_not_overwritten(folder: Path) -> None:
    place = recipe(folder)
    (folder / "other.safetensors").write_text("mine")
    (folder / "folder.safetensors").mkdir()
    for name in ("other.safetensors", "folder.safetensors"):
        with pytest.raises(UsageError, match="exists and was not written by `toolchain weights`; choose another name"):
            write(place, folder / name, None, "onnxruntime")
    with pytest.raises(UsageError, match=r"--out=w.pt: expected a file that ends with .safetensors"):
        write(place, Path("w.pt"), None, "onnxruntime")
    assert (folder / "other.safetensors").read_text() == "mine"


@pytest.mark.parametrize(("suffix", "kind"), [(".pt2", "a torch.export program"), (".onnx", "an ONNX file")])
def test_a_finished_graph_has_no_torch_weights_to_write(folder: Path, suffix: str, kind: str) -> None:
    place = recipe(folder)
    place.write_text(place.read_text().replace("nets.py:net", f"net{suffix}"))
    with pytest.raises(ModelError, match=f"model.source is {kind}: it holds its weights in its own graph"):
        out(place)


def test_the_commands_end_with_one_line_of_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place, file = recipe(folder, PRUNE), folder / "w.safetensors"
    weights(place, out=file, target="onnxruntime")
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert last == {**last, "file": str(file), "sha256": digest_of(file), "parameters": 132}
    assert set(last) == {"file", "sha256", "accuracy", "parameters", "macs"}
    show(str(file))
    lines = capsys.readouterr().out.splitlines()
    assert json.loads(lines[-1])["source"] == "nets.py:net"
    with pytest.raises(UsageError, match=r"none\.safetensors: no such file; write one: toolchain weights"):
        show(str(folder / "none.safetensors"))

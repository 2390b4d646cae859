"""The making on one page: a recipe and a target go in, a bundle comes out.

    data -> model -> steps -> ONNX -> artifacts -> measured and compared -> chosen -> bundle

Every stage is kept by the digest of its inputs, options and code, so that an unchanged build takes seconds and an
interrupted one goes on. Knows the order of the rooms and what each stage depends on; each room knows its own work.
"""

from collections.abc import Callable
from pathlib import Path

import msgspec

from toolchain.backends import Calibration, backend
from toolchain.making import (
    Making,
    Measured,
    Reference,
    prepared,
    quantization,
    trained_model,
    wanted_precisions,
)
from toolchain.records.bundle import Bundle
from toolchain.records.manifest import Candidate, Precision
from toolchain.samples import calibration_pictures, trial_pictures
from toolchain.stages import code_digest, keep, kept, tool_versions
from toolchain.stepping import net_in, origin, records_of, rehearsed, stepped, taught, trained


def build(place: Path, target: str, release: str | None, say: Callable[[str], None]) -> Bundle:
    """Build the recipe at `place` for `target` into a bundle below home(); the room at fault raises its own error."""
    from toolchain.bundling import bundled, check_release

    check_release(release)
    making = prepared(place, target, say)
    reference = _reference(making)
    folders = _compressed(making)
    net = folders[-1] if folders else None
    if reference.accuracy is None and folders and len(making.data.part("test")):
        reference = _reference_after(making, folders[taught(folders)], reference)
    onnx = exported(making, net)
    wanted = wanted_precisions(making, backend(target))
    artifacts = tuple(artifact(making, target, onnx, precision) for precision in wanted)
    measured = _measured(making, net, onnx, artifacts, reference)
    say(f"chosen: {measured.choice}")
    return bundled(making, reference, records_of(folders), artifacts, measured, release)


def _reference(making: Making) -> Reference:
    """The trained model's own accuracy, in fp32, on the whole test part: what every candidate is held against."""

    def make(folder: Path, _: Path) -> None:
        from toolchain.compress.measured import accuracy
        from toolchain.export import ort_accuracy

        loaded, test = trained_model(making), making.data.part("test")
        figure = None
        # random weights, and a head that is still to be replaced, have no accuracy on these classes
        if len(test) and loaded.fits and making.recipe.model.weights != "random":
            if loaded.module is not None:
                figure = accuracy(loaded.module, test, making.recipe.input, "fp32 torch, test")
            elif loaded.onnx is not None:
                figure = ort_accuracy(loaded.onnx, making.recipe.input, test)
        record = Reference(loaded.description, loaded.labels or making.data.classes, figure, len(test))
        keep(folder, record)

    folder = making.made("reference", "model: fp32 accuracy on the test part", making.source, make)
    return kept(folder, Reference)


def _compressed(making: Making) -> tuple[Path, ...]:
    """The folders of the net as it came and after each step; none for a model that came as a graph."""
    original = trained(making)
    if original is None:
        return ()
    rehearsed(making, original)
    return stepped(making, original)


def _reference_after(making: Making, net: Path, before: Reference) -> Reference:
    """The model as it came knew nothing or other classes, so the net after its last training is the reference."""

    def make(folder: Path, _: Path) -> None:
        from toolchain.compress.measured import accuracy

        module, test = net_in(making, net).module, making.data.part("test")
        figure = accuracy(module, test, making.recipe.input, "fp32 torch after training, test")
        keep(folder, msgspec.structs.replace(before, accuracy=figure))

    title = "net after its training: fp32 accuracy on the test part"
    return kept(making.made("reference-after", title, {"net": origin(net)}, make), Reference)


def exported(making: Making, net: Path | None) -> Path:
    """The folder of `model.onnx`, preprocessing folded in, checked against torch on pictures outside the test part."""

    def make(folder: Path, _: Path) -> None:
        from toolchain.export import check_classes, check_onnx, onnx_from_onnx, onnx_from_torch

        shape, path = making.recipe.input, folder / "model.onnx"
        if net is None:
            onnx_from_onnx(trained_model(making).graph_or_refusal(), shape, path)
            check_classes(path, trial_pictures(making.data), len(making.data.classes))
            return
        module = net_in(making, net).module
        onnx_from_torch(module, shape, path)
        check_onnx(path, module, shape, trial_pictures(making.data))

    inputs = {
        "net": origin(net) if net else making.source,
        "code": code_digest("toolchain/export", "toolchain/samples.py"),
        "tools": tool_versions("onnx", "onnxscript", "onnxruntime", "torch"),
    }
    return making.made("onnx", "export: ONNX, checked by ONNX Runtime against torch", inputs, make)


def artifact(making: Making, target: str, onnx: Path, precision: Precision) -> tuple[Path, Candidate]:
    """The folder of one artifact, and the candidate that it is; int8 is calibrated on the train part alone."""
    room, how = backend(target), quantization(making) if precision == "int8" else None

    def make(folder: Path, _: Path) -> None:
        calibration = None
        if how is not None:
            images, _indices = calibration_pictures(making.pictures, how.samples, making.recipe.build.seed)
            calibration = Calibration(images, how.preset, how.bias_correction, how.smooth)
        keep(folder, room.build(onnx / "model.onnx", folder, precision, calibration))

    inputs = {
        "onnx": onnx.name,
        "target": target,
        "precision": precision,
        "quantization": msgspec.to_builtins(how),
        "pictures": making.pictures.sha256 if how else "",
        "code": code_digest("toolchain/backends", "toolchain/samples.py"),
        "tools": tool_versions("openvino", "nncf", "onnxruntime"),
    }
    folder = making.made(f"{target}-{precision}", f"{target}: {precision}", inputs, make)
    return folder, kept(folder, Candidate)


def _measured(
    making: Making, net: Path | None, onnx: Path, artifacts: tuple[tuple[Path, Candidate], ...], reference: Reference
) -> Measured:
    """Every candidate on this machine: same answers, accuracy, latency; then the choice."""
    from deploy.runtime.probe import fingerprint

    def make(folder: Path, work: Path) -> None:
        from toolchain.judging import judged

        module = net_in(making, net).module if net else None
        keep(folder, judged(making, module, onnx, artifacts, reference, work))

    inputs = {
        "artifacts": [folder.name for folder, _ in artifacts],
        "data": making.data.sha256,
        "reference": reference.accuracy,
        "loss": making.recipe.build.max_accuracy_loss,
        "threads": making.threads,
        "device": msgspec.to_builtins(fingerprint()),
        "code": code_digest(
            "toolchain/judging.py",
            "toolchain/choose.py",
            "toolchain/measuring.py",
            "toolchain/parity",
            "toolchain/samples.py",
            "deploy/runtime/engines",
        ),
    }
    folder = making.made("measured", "candidates: parity, accuracy and latency on this machine", inputs, make)
    return kept(folder, Measured)

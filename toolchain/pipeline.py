"""The making on one page: a recipe and a target go in, a bundle comes out.

    data -> model -> steps -> ONNX -> artifacts -> measured and compared -> chosen -> bundle

Every stage is kept by the digest of its inputs, options and code, so that an unchanged build takes seconds and an
interrupted one goes on. Knows the order of the rooms and what each stage depends on; each room knows its own work.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

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
from toolchain.records.files import digest_of
from toolchain.records.manifest import Candidate, Precision, StepRecord
from toolchain.samples import calibration_pictures, trial_pictures
from toolchain.stages import code_digest, keep, kept, tool_versions

if TYPE_CHECKING:
    from toolchain.compress.step import Context, Net, Step

NET = "net.pt"


def build(place: Path, target: str, release: str | None, say: Callable[[str], None]) -> Bundle:
    """Build the recipe at `place` for `target` into a bundle below home(); the room at fault raises its own error."""
    from toolchain.bundling import bundled, check_release

    check_release(release)
    making = prepared(place, target, say)
    reference = _reference(making)
    net, records = _compressed(making)
    if reference.accuracy is None and net is not None and len(making.data.part("test")):
        reference = _reference_after(making, net, reference)
    onnx = exported(making, net)
    wanted = wanted_precisions(making, backend(target))
    artifacts = tuple(artifact(making, target, onnx, precision) for precision in wanted)
    measured = _measured(making, net, onnx, artifacts, reference)
    say(f"chosen: {measured.choice}")
    return bundled(making, reference, records, artifacts, measured, release)


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


def _reference_after(making: Making, net: Path, before: Reference) -> Reference:
    """The model as it came knew nothing or other classes, so the net after its last step is the reference."""

    def make(folder: Path, _: Path) -> None:
        from toolchain.compress.measured import accuracy

        module, test = net_in(making, net).module, making.data.part("test")
        figure = accuracy(module, test, making.recipe.input, "fp32 torch after the steps, test")
        keep(folder, msgspec.structs.replace(before, accuracy=figure))

    title = "net after its steps: fp32 accuracy on the test part"
    return kept(making.made("reference-after", title, {"net": net.name}, make), Reference)


def trained(making: Making) -> Path | None:
    """The folder of the net as the recipe starts from it; None for an ONNX model, which has no torch net."""
    if making.recipe.model.source.endswith(".onnx"):
        return None

    def make(folder: Path, _: Path) -> None:
        from toolchain.compress.measured import step_record
        from toolchain.compress.saved import save_net
        from toolchain.compress.step import Net

        net = Net(trained_model(making).module_or_refusal())
        save_net(net, folder / NET)
        keep(folder, step_record("model", {}, net, making.data, making.recipe.input, 0.0))

    return making.made("model", "model: load and check", making.source, make)


def _compressed(making: Making) -> tuple[Path | None, tuple[StepRecord, ...]]:
    """The folder of the net after the last step, and the record of every step."""
    folder = trained(making)
    if folder is None:
        return None, ()
    _rehearsed(making, folder)
    folders = [folder]
    for number, (name, step) in enumerate(making.steps, 1):
        title = f"step {number}/{len(making.steps)}: {name}"
        folders.append(_stepped(making, title, name, step, folders[-1], folder))
    return folders[-1], tuple(kept(one, StepRecord) for one in folders)


def _rehearsed(making: Making, before: Path) -> None:
    """Everything that a step would refuse is refused now, before any of them trains."""

    def make(folder: Path, work: Path) -> None:
        from toolchain.compress import check_steps

        check_steps(making.steps, net_in(making, before), _context(making, before, work), str(making.place))
        keep(folder, True)

    steps = [[name, _options(making, step)] for name, step in making.steps]
    making.made("rehearsal", "steps: rehearsed", {"before": before.name, "steps": steps}, make)


def _options(making: Making, step: "Step") -> dict[str, object]:
    """A step's options, and the bytes of the teachers that they name."""
    from toolchain.models import files_of

    teachers = [digest_of(file) for spec in getattr(step, "teachers", ()) for file in files_of(spec, making.base)]
    return {"options": msgspec.to_builtins(step), "teachers": teachers}


def _context(making: Making, original: Path, work: Path) -> "Context":
    """original: the folder of the net as the recipe starts from it."""
    from toolchain.compress.step import Context
    from toolchain.trial import latencies

    return Context(
        making.data,
        making.recipe.input,
        work,
        making.recipe.build.seed,
        making.stages.say,
        lambda: net_in(making, original).module,
        making.base,
        lambda modules: latencies(making, modules),
    )


def _stepped(making: Making, title: str, name: str, step: "Step", before: Path, original: Path) -> Path:
    def make(folder: Path, work: Path) -> None:
        from toolchain.compress.measured import apply_step
        from toolchain.compress.saved import save_net

        net, record = apply_step(name, step, net_in(making, before), _context(making, original, work))
        save_net(net, folder / NET)
        keep(folder, record)

    inputs = {"before": before.name, "original": original.name, **_options(making, step)}
    return making.made(name, title, inputs, make)


def net_in(making: Making, folder: Path) -> "Net":
    """The net that a stage left in `folder`; a user's own classes are imported first."""
    from toolchain.compress.saved import load_net
    from toolchain.models import import_user_file, user_file

    if own := user_file(making.recipe.model, making.base):
        import_user_file(own)
    return load_net(folder / NET)


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
        "net": net.name if net else making.source,
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

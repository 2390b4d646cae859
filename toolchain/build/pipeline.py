"""The making on one page: a recipe and a target go in, a bundle comes out.

    data -> model -> steps -> ONNX -> artifacts -> measured and compared -> chosen -> bundle

Every stage is kept by the digest of its inputs, options and code, so that an unchanged build takes seconds and an
interrupted one goes on. Knows the order of the rooms and what each stage depends on; each room knows its own work.
"""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from toolchain.backends import Calibration, Rounding, backend
from toolchain.build.step_benchmark import Artifact
from toolchain.build.step_report import Tried, measured_steps, refuse, refuse_before_training, terms_of, told
from toolchain.build.step_verdict import Terms
from toolchain.build.steps import facts_in, helped, net_in, origin, rehearsed, stepped, taught, trained
from toolchain.errors import AccuracyError
from toolchain.job.job import Making, Measured, Reference, read_job, trained_model
from toolchain.job.precisions import check_orders, quantization_for, rounding_for, wanted_precisions
from toolchain.job.samples import (
    calibration_pictures,
    check_golden,
    golden_pictures,
    trial_pictures,
    validation_pictures,
)
from toolchain.job.stages import code_digest, keep, kept, tool_versions
from toolchain.records.bundle import Bundle
from toolchain.records.manifest import FLOAT_LAYERS, Candidate, Precision, StepRecord
from toolchain.views.steps import steps_page

if TYPE_CHECKING:
    from toolchain.compress.step import Quantization

logger = logging.getLogger(__name__)


def build(place: Path, target: str, release: str | None) -> Bundle:
    """Build the recipe at `place` for `target` into a bundle below home(); the room at fault raises its own error."""
    from toolchain.build.bundle import check_release
    from toolchain.compress.distributed import leave_process_group, report_error_once

    with report_error_once() as world:
        check_release(release)
        making = prepare(place, target)
        if not world.is_first:
            helped(making)
            leave_process_group(world)  # this process ends
        return _built(making, target, release)


def prepare(place: Path, target: str) -> Making:
    """Read the recipe and look at everything that can be refused before any work is done."""
    making = read_job(place, target)
    check_orders(making, backend(target))
    check_golden(making.pictures)
    return making


def _built(making: Making, target: str, release: str | None) -> Bundle:
    """By the first process; under torchrun the others help with the steps."""
    from toolchain.build.bundle import bundled
    from toolchain.compress.distributed import distributed_context, leave_process_group

    folders, reference = compressed_and_referenced(making)
    leave_process_group(distributed_context())
    net = folders[-1] if folders else None
    onnx = exported(making, net)
    wanted = wanted_precisions(making, backend(target))
    artifacts = tuple(artifact(making, target, onnx, precision) for precision in wanted)
    terms = terms_of(making, reference, folders)
    try:
        measured = _measured(making, net, onnx, artifacts, reference)
    except AccuracyError:
        _judged_steps(making, folders, None, artifacts, terms)
        raise
    steps = _judged_steps(making, folders, measured, artifacts, terms)
    logger.info(f"chosen: {measured.choice}")
    return bundled(making, reference, steps, artifacts, measured, release)


def _judged_steps(
    making: Making, folders: tuple[Path, ...], measured: Measured | None, artifacts: tuple[Artifact, ...], terms: Terms
) -> tuple[StepRecord, ...]:
    """Every step with what it promised and what was measured of it. RefusedError where one does not pay and the recipe
    refuses that. Without candidates (none was good enough) the table is told: the release ends there."""
    if not folders:
        return ()
    tried = step_artifacts(making, folders, artifacts)
    steps, verdicts = told(tried, measured_steps(tried, measured, artifacts), terms)
    if measured is None:
        logger.info(steps_page(steps, making.target))
    else:
        refuse(making, steps, verdicts)
    return steps


def step_artifacts(making: Making, folders: tuple[Path, ...], made: tuple[Artifact, ...] = ()) -> Tried:
    """The net as it came and after each step, each built for the target in the precision that the step is about; `made`
    are those of the last net that there are already."""
    wanted = wanted_precisions(making, backend(making.target))
    known = {(origin(folders[-1]), candidate.precision): (folder, candidate) for folder, candidate in made}

    def built(folder: Path) -> Artifact | str:
        precision = facts_in(folder).precision
        if precision != "fp32" and precision not in wanted:
            return f"not used: no {precision} among the precisions for {making.target}"
        key = origin(folder), precision
        if key not in known:
            known[key] = artifact(making, making.target, exported(making, folder), precision)
        return known[key]

    return Tried(making, folders, tuple(built(folder) for folder in folders))


def compressed_and_referenced(making: Making) -> tuple[tuple[Path, ...], Reference]:
    """The folders of the net as it came and after each step, and what the release is held against."""
    reference = _reference(making)
    folders = _compressed(making)
    if reference.accuracy is None and folders and len(making.data.split("test")):
        reference = _reference_after(making, folders[taught(folders)], reference)
    return folders, reference


def _reference(making: Making) -> Reference:
    """The trained model's own accuracy, in fp32, on the whole test part: what every candidate is held against."""

    def make(folder: Path, _: Path) -> None:
        from toolchain.compress.metrics import accuracy
        from toolchain.export import ort_accuracy

        loaded, test = trained_model(making), making.data.split("test")
        figure = None
        # random weights, and a head that is still to be replaced, have no accuracy on these classes
        if len(test) and loaded.head_fits and making.recipe.model.weights != "random":
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
    refuse_before_training(making, original)
    return stepped(making, original)


def _reference_after(making: Making, net: Path, before: Reference) -> Reference:
    """The model as it came knew nothing or other classes, so the net after its last training is the reference."""

    def make(folder: Path, _: Path) -> None:
        from toolchain.compress.metrics import accuracy

        module, test = net_in(making, net).module, making.data.split("test")
        figure = accuracy(module, test, making.recipe.input, "fp32 torch after training, test")
        keep(folder, msgspec.structs.replace(before, accuracy=figure, after_training=True))

    title = "net after its training: fp32 accuracy on the test part"
    return kept(making.made("reference-after", title, {"net": origin(net)}, make), Reference)


def exported(making: Making, net: Path | None) -> Path:
    """The folder of `model.onnx`, preprocessing folded in, checked against torch on pictures outside the test part."""

    def make(folder: Path, _: Path) -> None:
        from toolchain.export import check_classes, check_onnx, onnx_from_onnx, onnx_from_torch

        shape, path = making.recipe.input, folder / "model.onnx"
        if net is None:
            onnx_from_onnx(trained_model(making).require_graph(), shape, path)
            check_classes(path, trial_pictures(making.data), len(making.data.classes))
            return
        module = net_in(making, net).module
        onnx_from_torch(module, shape, path)
        check_onnx(path, module, shape, trial_pictures(making.data))

    inputs = {
        "net": origin(net) if net else making.source,
        "code": code_digest("toolchain/export", "toolchain/job/samples.py"),
        "tools": tool_versions("onnx", "onnxscript", "onnxruntime", "torch"),
    }
    return making.made("onnx", "export: ONNX, checked by ONNX Runtime against torch", inputs, make)


def artifact(making: Making, target: str, onnx: Path, precision: Precision) -> tuple[Path, Candidate]:
    """The folder of one artifact, and the candidate that it is; int8 is calibrated on the train part alone."""
    room, how, order = backend(target), quantization_for(making, precision), rounding_for(making, precision)
    small, options = making.recipe.build.prefer == "size", making.recipe.target.get(target, {})

    def make(folder: Path, _: Path) -> None:
        calibration = None if how is None else _calibration(making, how)
        if calibration is None and precision in room.NEEDS_IMAGES:
            calibration = Calibration(golden_pictures(making.pictures))
        rounding = None if order is None else Rounding(*msgspec.structs.astuple(order))
        keep(folder, room.build(onnx / "model.onnx", folder, precision, calibration, rounding, small, options))

    inputs = {
        "onnx": onnx.name,
        "target": target,
        "precision": precision,
        "quantization": msgspec.to_builtins(how),
        "rounding": msgspec.to_builtins(order),
        "small": small,
        "options": options,
        "pictures": making.pictures.sha256 if how or precision in room.NEEDS_IMAGES else "",
        "checked": making.data.sha256 if how and how.max_drop is not None else "",
        "code": code_digest(
            "toolchain/backends", "toolchain/job/samples.py", "deploy/runtime/engines/tensorrt_plan.py"
        ),
        "tools": tool_versions("openvino", "nncf", "onnxruntime", "tensorrt-rtx-cu13-libs", "nvidia-modelopt"),
    }
    folder = making.made(f"{target}-{precision}", f"{target}: {precision}", inputs, make)
    candidate = kept(folder, Candidate)
    if how is not None and how.max_drop is not None:
        left = candidate.options.get(FLOAT_LAYERS, 0.0)
        logger.info(f"  {precision}: {left:.0f} layers left in float to lose at most {how.max_drop:g} points")
    return folder, candidate


def _calibration(making: Making, how: "Quantization") -> Calibration:
    """The pictures that `how` needs: none for ranges that are found anew, labelled ones too to measure a drop on."""
    ways: dict[str, Any] = {"preset": how.preset, "bias_correction": how.bias_correction, "smooth": how.smooth}
    ways |= {"per_channel": how.per_channel, "ignore": how.ignore, "max_drop": how.max_drop}
    if how.dynamic:
        return Calibration(np.zeros((0, *making.recipe.input.shape), np.uint8), **ways)
    images, _ = calibration_pictures(making.pictures, how.samples, making.recipe.build.seed)
    checked = None if how.max_drop is None else validation_pictures(making.data)
    return Calibration(images, validation=checked, **ways)


def _measured(
    making: Making, net: Path | None, onnx: Path, artifacts: tuple[tuple[Path, Candidate], ...], reference: Reference
) -> Measured:
    """Every candidate on this machine: same answers, accuracy, latency; then the choice."""
    from deploy.runtime.device.probe import fingerprint

    def make(folder: Path, work: Path) -> None:
        from toolchain.build.candidates import judged

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
            "toolchain/build/candidates.py",
            "toolchain/build/choose.py",
            "toolchain/job/latency.py",
            "toolchain/parity",
            "toolchain/job/samples.py",
            "deploy/runtime/engines",
        ),
    }
    folder = making.made("measured", "candidates: parity, accuracy and latency on this machine", inputs, make)
    return kept(folder, Measured)

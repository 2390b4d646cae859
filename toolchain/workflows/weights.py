"""`toolchain weights`: the torch weights of a recipe's net, after its steps, as a .safetensors file with its history.

Knows where the stages keep the nets and what is told of them; how a net is written down is models/'s. What the back end
does after export (quantize, quantize_weights) is in no torch net and so in no such file.
"""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from toolchain.build.pipeline import prepare
from toolchain.build.steps import facts_in, net_in, origin, rehearsed, stepped, trained
from toolchain.compress import POST_EXPORT_STEPS
from toolchain.errors import ModelError, RecordError, UsageError
from toolchain.job.job import Making, trained_model
from toolchain.job.stages import RECORD, keep, kept, tool_versions
from toolchain.records.manifest import StepRecord
from toolchain.records.storage import digest_of
from toolchain.records.weights import AppliedStep, QatSettings, Structure, Weights, read_weights

if TYPE_CHECKING:
    from toolchain.compress.step import Step

TOOLS = ("edge-toolchain", "torch", "torchvision", "torch-pruning", "safetensors")
SUFFIX = ".safetensors"


class Written(msgspec.Struct, frozen=True):
    """file: as it was asked for; accuracy: top-1 of fp32 torch on the test part, None where there is none."""

    file: str
    sha256: str
    accuracy: float | None
    parameters: int
    macs: int


def write(place: Path, out: Path, step: int | None, target: str) -> tuple[Weights, Written]:
    """Run the steps of the recipe at `place`, up to number `step` (None: the last one on torch), and write the net to
    `out`, whole or not at all. UsageError or ModelError for what cannot be written."""
    from toolchain.compress.quantization.restore import rebuild_qat_layers, tensors_to_store
    from toolchain.models.save import write_weights

    check_out(out)
    making = prepare(place, target)
    check_source(making)
    check_step(making, step)
    original = trained(making)
    assert original is not None, "check_source lets no graph through"
    rehearsed(making, original)
    folders = stepped(replace(making, steps=making.steps[:step]), original)
    folders = folders[: 1 + max((number for number, one in enumerate(folders) if not facts_in(one).same), default=0)]
    record = _record(making, folders, _command(place, out, step))
    module = net_in(making, folders[-1]).module
    write_weights(module, tensors_to_store(module), record, making.recipe.model, making.base, out, rebuild_qat_layers)
    return record, Written(str(out), digest_of(out), record.accuracy, record.parameters, record.macs)


def check_source(making: Making) -> None:
    """ModelError for a finished graph, which has no weights that another network could take."""
    kind = {".onnx": "an ONNX file", ".pt2": "a torch.export program"}.get(Path(making.recipe.model.source).suffix)
    if kind:
        raise ModelError(
            f"{making.place}: model.source is {kind}: it holds its weights in its own graph and there are no torch "
            "weights to write; give the model as path/file.py:function"
        )


def check_out(out: Path) -> None:
    """UsageError for a name that is not a .safetensors file's, and for a file that is not ours to overwrite."""
    if out.suffix != SUFFIX:
        raise UsageError(f"--out={out}: expected a file that ends with {SUFFIX}")
    if not out.exists():
        return
    try:
        ours = out.is_file() and read_weights(out) is not None
    except RecordError:
        ours = False
    if not ours:
        raise UsageError(f"--out={out}: is there, and `toolchain weights` did not write it; choose another name")


def check_step(making: Making, step: int | None) -> None:
    """UsageError for a number that no step has, or a step that leaves the torch net as it is."""
    if step is None:
        return
    names = [name for name, _ in making.steps]
    if not 0 <= step <= len(names):
        shown = ", ".join(f"{number} {name}" for number, name in enumerate(names, 1)) or "no steps"
        raise UsageError(f"--step={step}: the recipe has: {shown}; 0 is the model as it came")
    if step and names[step - 1] in POST_EXPORT_STEPS:
        raise UsageError(
            f"--step={step}: {names[step - 1]} is done by the back end, after export, and changes no torch weights; "
            f"take --step={step - 1} or leave --step out"
        )


def _record(making: Making, folders: tuple[Path, ...], command: str) -> Weights:
    """folders: of the net as it came and after each step that is told."""
    recipe, last, started = making.recipe, kept(folders[-1], StepRecord), trained_model(making).weights_record
    applied = tuple(AppliedStep(name, msgspec.to_builtins(step)) for name, step in making.steps[: len(folders) - 1])
    classes, structure = _structure(making, folders, started)
    return Weights(
        source=recipe.model.source,
        options=recipe.model.options,
        classes=classes,
        recipe=recipe.name,
        input=recipe.input,
        data=recipe.data.name,
        seed=recipe.build.seed,
        steps=(*(started.steps if started else ()), *applied),
        structure=structure,
        accuracy=_accuracy(making, folders[-1]),
        images=len(making.data.split("test")),
        parameters=last.parameters,
        macs=last.macs,
        tools=tool_versions(*TOOLS),
        command=command,
    )


def _structure(making: Making, folders: tuple[Path, ...], started: Weights | None) -> tuple[int, Structure]:
    """The classes to build the source for, and what to do to it. Quantization-aware layers are not described one by
    one: the net before them is, and how to make them of it. started: what the recipe's own weights say of themselves,
    when they were quantization-aware already."""
    from toolchain.models.check import class_count
    from toolchain.models.save import structure_for_source

    sparse = net_in(making, folders[-1]).sparse
    if started is not None and started.structure.learned is not None:
        return started.classes, msgspec.structs.replace(started.structure, sparse=sparse)
    names = [name for name, _ in making.steps[: len(folders) - 1]]
    at = names.index("qat") if "qat" in names else None
    module = net_in(making, folders[-1] if at is None else folders[at]).module
    classes = class_count(module, making.recipe.input)
    found = structure_for_source(making.recipe.model, making.base, module, classes)
    learned = None if at is None else _learned(making.steps[at][1])
    return classes, msgspec.structs.replace(found, sparse=sparse, learned=learned)


def _learned(step: "Step") -> QatSettings:
    from toolchain.compress.steps.qat import Qat

    assert isinstance(step, Qat)
    scales = step.scales == "learned"
    return QatSettings(step.weight_bits, step.activation_bits or None, step.keep_ends, scales, step.symmetric)


def _accuracy(making: Making, folder: Path) -> float | None:
    """Top-1 on the test part, kept: None without one, and for a head of other classes than the data's."""

    def make(result: Path, _: Path) -> None:
        from toolchain.compress.metrics import accuracy
        from toolchain.models.check import class_count

        module, test, shape = net_in(making, folder).module, making.data.split("test"), making.recipe.input
        fits = len(test) and class_count(module, shape) == len(making.data.classes)
        keep(result, accuracy(module, test, shape, "fp32 torch, test") if fits else None)

    title = "weights: fp32 accuracy on the test part"
    result = making.made("test-accuracy", title, {"net": origin(folder)}, make)
    return msgspec.json.decode((result / RECORD).read_bytes(), type=float | None)


def _command(place: Path, out: Path, step: int | None) -> str:
    """What was typed, without this machine's folders."""
    recipe, file = (path.name if path.is_absolute() else str(path) for path in (place, out))
    return f"toolchain weights {recipe} --out={file}{f' --step={step}' if step is not None else ''}"

"""The steps of a build: the net as it came, rehearsed, then one kept stage a step.

Knows what each step depends on and leaves behind; what a step does is compress/'s, what it pays is paying.py's.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from toolchain.job.job import Making, trained_model
from toolchain.job.stages import keep, kept, tool_versions
from toolchain.records.manifest import StepRecord
from toolchain.records.storage import digest_of, encode_record

if TYPE_CHECKING:
    from toolchain.compress.properties import ModelProperties
    from toolchain.compress.step import CompressedModel, Step, StepContext

NET, FACTS, ORIGIN = "net.pt", "facts.json", "origin"


def trained(making: Making) -> Path | None:
    """The folder of the net as the recipe starts from it; None for an ONNX model, which has no torch net."""
    if making.recipe.model.source.endswith(".onnx"):
        return None

    def make(folder: Path, _: Path) -> None:
        from toolchain.compress.metrics import step_record
        from toolchain.compress.properties import properties_of
        from toolchain.compress.quantization.restore import compressed_model_of
        from toolchain.compress.serialization import save_compressed

        net = compressed_model_of(trained_model(making))
        save_compressed(net, folder / NET)
        (folder / FACTS).write_bytes(encode_record(properties_of(None, None, net)))
        keep(folder, step_record("model", {}, net, making.data, making.recipe.input, 0.0))

    return making.made_by_first("model", "model: load and check", making.source, make)


def stepped(making: Making, original: Path) -> tuple[Path, ...]:
    """The folders of the net as it came and after each step; `original` is the first."""
    folders = [original]
    for number, (name, step) in enumerate(making.steps, 1):
        title = f"step {number}/{len(making.steps)}: {name}"
        folders.append(_stepped(making, title, name, step, folders[-1], original))
    return tuple(folders)


def records_of(folders: tuple[Path, ...]) -> tuple[StepRecord, ...]:
    return tuple(kept(folder, StepRecord) for folder in folders)


def facts_in(folder: Path) -> "ModelProperties":
    """What a step left of its net's storage and shape, read without loading the net."""
    from toolchain.compress.properties import ModelProperties

    return msgspec.json.decode((folder / FACTS).read_bytes(), type=ModelProperties)


def taught(folders: tuple[Path, ...]) -> int:
    """Where the last training in fp32 ended: what a net that came untrained is held against. Without one, the last net
    in fp32."""
    facts = [facts_in(folder) for folder in folders]
    full = [number for number, one in enumerate(facts) if one.precision == "fp32"]
    return max((number for number in full if facts[number].trains), default=full[-1])


def rehearsed(making: Making, original: Path) -> None:
    """Everything that a step would refuse is refused now, before any of them trains."""

    def make(folder: Path, work: Path) -> None:
        rehearsed_nets(making, original, work)
        keep(folder, True)

    making.made("rehearsal", "steps: rehearsed", rehearsal_inputs(making, original), make)


def rehearsed_nets(making: Making, original: Path, work: Path) -> "tuple[CompressedModel, ...]":
    """The net as it came, and in the shapes that each step leads to, untrained."""
    from toolchain.compress import check_steps

    context = context_of(making, original, work)
    return check_steps(making.steps, net_in(making, original), context, str(making.place))


def rehearsal_inputs(making: Making, original: Path) -> dict[str, object]:
    return {"before": original.name, "steps": [[name, step_options(making, step)] for name, step in making.steps]}


def step_options(making: Making, step: "Step") -> dict[str, object]:
    """A step's options, the bytes of the teachers that they name, and the device where it measures there."""
    from toolchain.models import source_files

    teachers = [digest_of(file) for spec in getattr(step, "teachers", ()) for file in source_files(spec, making.base)]
    measured_on = device_of(making) if getattr(step, "latency_times_faster", None) else {}
    return {"options": msgspec.to_builtins(step), "teachers": teachers, **measured_on}


def device_of(making: Making) -> dict[str, object]:
    """What a measured latency depends on, beside the net."""
    from deploy.runtime.device.probe import fingerprint

    engines = tool_versions("openvino", "onnxruntime")
    return {
        "target": making.target,
        "threads": making.threads,
        "device": msgspec.to_builtins(fingerprint()),
        "engines": engines,
    }


def _stepped(making: Making, title: str, name: str, step: "Step", before: Path, original: Path) -> Path:
    def make(folder: Path, work: Path) -> None:
        from toolchain.compress.metrics import apply_step
        from toolchain.compress.properties import properties_of
        from toolchain.compress.serialization import save_compressed

        given = net_in(making, before)
        net, record = apply_step(name, step, given, context_of(making, original, work))
        save_compressed(net, folder / NET)
        facts = properties_of(step, given, net)
        (folder / FACTS).write_bytes(encode_record(facts))
        if facts.same:
            (folder / ORIGIN).write_text(origin(before))
        keep(folder, record)

    inputs = {"before": before.name, "original": original.name, **step_options(making, step)}
    return making.made_by_all(name, title, inputs, make)


def helped(making: Making) -> None:
    """What a process that is not the first has to do under torchrun: take part in the steps."""
    if (original := trained(making)) is not None:
        stepped(making, original)


def origin(folder: Path) -> str:
    """The stage that last changed the module in `folder`: what is made of the module alone depends on no later one."""
    return (folder / ORIGIN).read_text() if (folder / ORIGIN).is_file() else folder.name


def context_of(making: Making, original: Path, work: Path) -> "StepContext":
    """What a step may use. original: the folder of the net as the recipe starts from it."""
    from toolchain.build.step_benchmark import latencies
    from toolchain.compress.distributed import distributed_context
    from toolchain.compress.step import StepContext

    return StepContext(
        making.data,
        making.recipe.input,
        work,
        making.recipe.build.seed,
        lambda: net_in(making, original).module,
        making.base,
        lambda modules: distributed_context().run_on_first(lambda: latencies(making, modules)),
    )


def net_in(making: Making, folder: Path) -> "CompressedModel":
    """The net that a stage left in `folder`; a user's own classes are imported first."""
    from toolchain.compress.serialization import load_compressed
    from toolchain.models import import_user_file, user_file

    if own := user_file(making.recipe.model, making.base):
        import_user_file(own)
    return load_compressed(folder / NET)

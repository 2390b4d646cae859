"""The model that a recipe starts from: what it depends on, and itself as the first kept stage.

Knows nothing of steps or engines.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from toolchain.compress.metrics import step_record
from toolchain.compress.properties import ModelProperties, properties_of
from toolchain.compress.quantization.restore import compressed_model_of, rebuild_qat_layers
from toolchain.compress.serialization import load_compressed, save_compressed, weights_digest
from toolchain.job.stage import Stage, StageResult, tool_versions
from toolchain.models import LoadedModel, import_user_file, load_model, source_files, user_file
from toolchain.records.manifest import StepRecord
from toolchain.records.output import OutputKind
from toolchain.records.storage import digest_of

if TYPE_CHECKING:
    from toolchain.compress.step import CompressedModel
    from toolchain.job.distributed_stages import DistributedStageCache
    from toolchain.job.job import BuildJob

NET = "net.pt"
ModelInputs = dict[str, Any]


class ModelRecord(msgspec.Struct, frozen=True):
    """A torch model in the cache. step: for the manifest; facts: how the step is judged; output: what its outputs say;
    module_key: the earlier stage that made this very module, '' where this one did."""

    step: StepRecord
    facts: ModelProperties
    output: OutputKind
    module_key: str = ""


Model = StageResult[ModelRecord]


def module_key(model: Model) -> str:
    """The stage that last changed the module: what is made of the module alone depends on no later one."""
    return model.record.module_key or model.key


def model_inputs(job: "BuildJob") -> ModelInputs:
    """What the trained model depends on: the spec, the bytes of every file that it names, and the data. One's own
    function may read weights from anywhere, so it is called and what it returns is digested. Where its file lies counts
    too: a model in the cache names its classes by that place."""
    spec = job.recipe.model
    own = user_file(spec, job.base)
    module = load_trained_model(job).module if own and spec.weights == "own" else None
    graph_tools = ("onnxruntime",) if spec.source.endswith(".onnx") else ()
    return {
        "model": msgspec.to_builtins(spec),
        "other_head": job.replaces_head,
        "input": msgspec.to_builtins(job.recipe.input),
        "place": str(own or ""),
        "files": [digest_of(file) for file in source_files(spec, job.base)],
        "weights": weights_digest(module) if module is not None else "",
        "data": job.data.sha256,
        "tools": tool_versions("torch", "torchvision", "torch-pruning", "pillow", *graph_tools),
    }


def load_trained_model(job: "BuildJob") -> LoadedModel:
    """The model that the recipe starts from, loaded from its source."""
    return load_model(
        job.recipe.model,
        job.recipe.input,
        len(job.data.classes) or None,
        job.base,
        allow_other_head=job.replaces_head,
        seed=job.recipe.build.seed,
        rebuild=rebuild_qat_layers,
        multilabel=job.data.multilabel,
    )


def trained_model(job: "BuildJob", cache: "DistributedStageCache", inputs: ModelInputs) -> Model | None:
    """The model as the recipe starts from it; None for one that comes as an ONNX graph, which has no torch module."""
    if job.recipe.model.source.endswith(".onnx"):
        return None

    def make(folder: Path, _: Path) -> ModelRecord:
        loaded = load_trained_model(job)
        net = compressed_model_of(loaded)
        save_compressed(net, folder / NET)
        record = step_record("model", {}, net, job.data, job.recipe.input, 0.0, loaded.output)
        return ModelRecord(record, properties_of(None, None, net), loaded.output)

    return cache.run_in_first(Stage("model", "model: load and check", ModelRecord, inputs, make))


def load_staged(job: "BuildJob", model: Model) -> "CompressedModel":
    """The model that a stage left in its folder; a user's own classes are imported first."""
    if own := user_file(job.recipe.model, job.base):
        import_user_file(own)
    return load_compressed(model.folder / NET)

"""How much accuracy a candidate loses, on the validation split: the test split decides nothing before the end.

The loss is paired with the uncut fp32 model image by image, and told with its standard error.
"""

from pathlib import Path

import numpy as np

from deploy.runtime.engines import Settings, open_engine
from toolchain.backends import backend
from toolchain.build.artifacts import Artifact, build_artifact
from toolchain.build.onnx_graph import export_graph
from toolchain.build.pipeline import cache_for
from toolchain.build.steps import last_trained
from toolchain.errors import DataError
from toolchain.job.job import BuildJob
from toolchain.job.latency import scores_of
from toolchain.job.stage import Stage, StageResult
from toolchain.records.manifest import Precision
from toolchain.records.output import OutputKind
from toolchain.records.tensors import Array
from toolchain.search.structure import BuiltModel

GRADES = "grades.npy"
SPLIT = "validate"


def require_labels(job: BuildJob) -> None:
    """DataError for data that nothing can be trained or judged on."""
    for name, purpose in (("train", "train on"), (SPLIT, "compare recipes on")):
        if not job.data.classes or not len(job.data.splits.get(name, ())):
            raise DataError(
                f"{job.path}: search needs labelled images to {purpose}, and the {name} split of "
                f"'{job.data.name}' has none; give [data] training images"
            )


def reference_grades(baseline: BuiltModel) -> Array:
    """How right the uncut net is on each validation image, in fp32 on the target's engine."""
    job, models = baseline.job, baseline.models
    cache = cache_for(job)
    graph = export_graph(job, cache, baseline.inputs, models[last_trained(models)])
    full: Precision = "fp32" if "fp32" in backend(job.target).PRECISIONS else job.precisions[0]
    return _grades(job, build_artifact(job, cache, graph, full), graph.record)


def accuracy_loss(candidate: BuiltModel, reference: Array) -> tuple[float, float]:
    """Percentage points lost against `reference`, and the standard error of that."""
    grades = _grades(candidate.job, candidate.artifact, candidate.graph.record)
    lost = 100 * (reference - grades)
    return float(lost.mean()), float(lost.std(ddof=1) / np.sqrt(len(lost))) if len(lost) > 1 else 0.0


def _grades(job: BuildJob, artifact: Artifact, output: OutputKind) -> Array:
    split = job.data.split(SPLIT)

    def make(folder: Path, _: Path) -> float:
        with open_engine(artifact.folder, artifact.record, Settings(job.threads, "throughput")) as engine:
            grades = output.grade(scores_of(engine, split.images, "validation images"), split.labels)
        np.save(folder / GRADES, grades)
        return float(grades.mean())

    inputs = {"artifact": artifact.key, "data": job.data.sha256, "split": SPLIT}
    kept: StageResult[float] = cache_for(job).run(Stage("search-accuracy", "search: accuracy", float, inputs, make))
    grades: Array = np.load(kept.folder / GRADES)
    return grades

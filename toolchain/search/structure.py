"""A candidate's structure, before anything is trained: cut, exported, compiled, and timed beside the uncut net.

The same stages as a build's, so that the build finds them made. Knows nothing of accuracy.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from deploy.runtime.engines import Engine, Settings, open_engine
from toolchain.build.artifacts import Artifact, build_artifact
from toolchain.build.onnx_graph import Graph, export_graph
from toolchain.build.pipeline import cache_for
from toolchain.build.step_benchmark import LatencyMeter
from toolchain.build.steps import run_steps
from toolchain.build.trained_model import Model, ModelInputs, model_inputs, trained_model
from toolchain.compress.distributed import DistributedContext
from toolchain.job.distributed_stages import DistributedStageCache
from toolchain.job.job import BuildJob, read_job
from toolchain.job.latency import caller, in_turn_ms
from toolchain.job.samples import trial_images
from toolchain.recipe import Recipe
from toolchain.recipe_toml import format_recipe

if TYPE_CHECKING:
    from toolchain.records.manifest import Precision


@dataclass(frozen=True)
class SearchSite:
    """Where the recipes of a search lie, and the target that they are built for."""

    folder: Path
    target: str

    def place_of(self, recipe: Recipe) -> Path:
        return self.folder / f"{recipe.name}.toml"

    def read(self, recipe: Recipe) -> BuildJob:
        """The recipe's job, as a build of its file would have it; nothing is written."""
        return read_job(self.place_of(recipe), self.target, format_recipe(recipe))


@dataclass(frozen=True)
class BuiltModel:
    """A job's models after each step, and the last one's artifact."""

    job: BuildJob
    inputs: ModelInputs
    models: tuple[Model, ...]
    graph: Graph
    artifact: Artifact

    @property
    def macs(self) -> int:
        return self.models[-1].record.step.macs

    def open_artifact(self) -> Engine:
        return open_engine(self.artifact.folder, self.artifact.record, Settings(self.job.threads))


def judged_precision(job: BuildJob) -> "Precision":
    """int8 where the recipe builds it, else the first that it builds."""
    return "int8" if "int8" in job.precisions else job.precisions[0]


def make_model(job: BuildJob) -> BuiltModel:
    """The steps run, and the last model built in the precision that is judged."""
    cache = cache_for(job)
    shared = DistributedStageCache(cache, DistributedContext())
    inputs = model_inputs(job)
    original = trained_model(job, shared, inputs)
    assert original is not None  # require_torch() refused graphs
    models = run_steps(job, shared, original, LatencyMeter(job))
    graph = export_graph(job, cache, inputs, models[-1])
    return BuiltModel(job, inputs, models, graph, build_artifact(job, cache, graph, judged_precision(job)))


def rebuild_as(built: BuiltModel, precision: "Precision") -> BuiltModel:
    """The same model in another precision: the uncut net is timed as it would be served."""
    job = built.job
    return replace(built, artifact=build_artifact(job, cache_for(job), built.graph, precision))


def compare_latency(baseline: BuiltModel, candidate: BuiltModel) -> tuple[float, float]:
    """Median milliseconds of one image for both, measured in turn in one run."""
    with baseline.open_artifact() as first, candidate.open_artifact() as second:
        callers = {
            "baseline": caller(first, trial_images(baseline.job.data)),
            "candidate": caller(second, trial_images(candidate.job.data)),
        }
        medians = in_turn_ms(callers)
    return medians["baseline"], medians["candidate"]

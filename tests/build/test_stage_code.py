"""A stage is made again when code that it reaches changes, and only then: small real builds for the null target."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.job.test_job import folder, make_folder, recipe
from toolchain.build.pipeline import build
from toolchain.job import code_digest
from toolchain.job.code_digest import SourceTree, read_source, source_tree
from toolchain.job.stage import Stage

__all__ = ["folder"]  # the fixture
STEPS = (
    "[[step]]\nfinetune = { epochs = 1, samples = 8, batch_size = 8, augment = [] }\n"
    "[[step]]\nquantize = { samples = 8 }\n[build]\nmax_accuracy_loss = 100\n"
)
TRAINING = {"model", "dry-run", "finetune", "quantize"}
# what a training depends on is small: not what builds, measures, chooses, shows or delivers
APART = ("toolchain.cli", "toolchain.views", "toolchain.report", "toolchain.workflows", "toolchain.export", "deploy")
IN_TRAINING = ("deploy.runtime.preprocessing", "deploy.runtime.decoding", "deploy.runtime.resampling")


@pytest.fixture
def changed(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """Sources by module, instead of those on disk; call source_tree.cache_clear() after a change."""
    texts: dict[str, str] = {}
    monkeypatch.setattr(code_digest, "read_source", lambda module: texts.get(module) or read_source(module))
    source_tree.cache_clear()
    yield texts
    source_tree.cache_clear()


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, ...]]:
    """The modules that each stage of a build starts from, by the stage's name."""
    digests: dict[str, tuple[str, ...]] = {}
    modules = Stage.modules.fget  # type: ignore[attr-defined]  # a property has one

    def spy(stage: Stage[object]) -> tuple[str, ...]:
        return digests.setdefault(stage.name, modules(stage))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Stage, "modules", property(spy))
        build(recipe(make_folder(tmp_path_factory.mktemp("stages"), patch), STEPS), "null", None)
    return digests


def source(module: str) -> str:
    text = read_source(module)
    assert text is not None
    return text


def rebuilt(place: Path, messages: list[str]) -> list[str]:
    """Build again; the stages that were made."""
    source_tree.cache_clear()
    messages.clear()
    build(place, "null", None)
    return [line.removesuffix(" ...").partition(":")[0] for line in messages if line.endswith(" ...")]


@pytest.mark.slow
def test_a_changed_noise_constant_repeats_the_choice_but_no_training(
    folder: Path, changed: dict[str, str], messages: list[str]
) -> None:
    place = recipe(folder, STEPS)
    build(place, "null", None)
    assert rebuilt(place, messages) == []
    verdict = source("toolchain.build.step_verdict")
    changed["toolchain.build.step_verdict"] = f"# a comment\n{verdict}"
    assert rebuilt(place, messages) == []
    changed["toolchain.build.step_verdict"] = verdict.replace("NOISE = 1.03", "NOISE = 1.05")
    assert rebuilt(place, messages) == ["export", "candidates", "steps", "samples"]  # trying the export takes seconds
    changed["toolchain.job.precisions"] = source("toolchain.job.precisions") + "\nCHANGED = 1\n"
    assert rebuilt(place, messages) == [], "read before the first stage: what it decides is in the stages' inputs"
    changed["toolchain.compress.training.loop"] = source("toolchain.compress.training.loop") + "\nCHANGED = 1\n"
    assert {"step 1/2", "step 2/2", "candidates", "samples"} <= set(rebuilt(place, messages))


@pytest.mark.slow
def test_a_changed_constant_in_any_module_of_a_stage_repeats_it_and_a_comment_does_not(
    stages: dict[str, tuple[str, ...]],
) -> None:
    read = cache(read_source)
    plain = SourceTree(read)
    before = {name: plain.digest(*modules) for name, modules in stages.items()}
    reached = {name: set().union(*map(plain.reachable_modules, modules)) for name, modules in stages.items()}

    def changed_by(more: str, *changed: str) -> set[str]:
        texts = {module: source(module) + more for module in changed}
        tree = SourceTree(lambda name: texts.get(name) or read(name))
        return {name for name, modules in stages.items() if tree.digest(*modules) != before[name]}

    assert "toolchain.compress.training.loop" in reached["finetune"], "the step's own module, which was handed in"
    assert "toolchain.compress.steps.qat" not in reached["finetune"]
    assert set(stages) >= TRAINING | {"reference", "onnx", "null-fp32", "candidates", "step-figures", "samples"}
    every = set().union(*reached.values())
    assert changed_by("\n# a comment\n", *every) == set()
    for module in every:
        assert changed_by("\nCHANGED = 1\n", module) == {name for name in stages if module in reached[name]}, module


@pytest.mark.slow
def test_training_depends_on_no_view_engine_or_deployment_module(stages: dict[str, tuple[str, ...]]) -> None:
    tree = SourceTree()
    for name in TRAINING:
        reached = set().union(*map(tree.reachable_modules, stages[name]))
        assert not [module for module in reached if module.startswith(APART) and not module.startswith(IN_TRAINING)]

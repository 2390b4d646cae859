"""What was made and measured -> a bundle with its samples, under a release name.

Knows what a manifest says and how releases are numbered; measures nothing.
"""

import re
import tempfile
from pathlib import Path
from shutil import copy2
from typing import TYPE_CHECKING

import msgspec

from toolchain.backends.needs import needs_of
from toolchain.build.bundle_samples import BundleSamples
from toolchain.build.candidates import Artifacts, CandidateEvaluation, gather_files
from toolchain.build.reference import Reference
from toolchain.errors import UsageError
from toolchain.job.stage import StageResult, tool_versions
from toolchain.paths import home
from toolchain.records.bundle import MANIFEST, Bundle, file_record, open_bundle, write_bundle
from toolchain.records.manifest import Accuracy, GoldenTolerances, Manifest, StepRecord
from toolchain.records.storage import encode_record
from toolchain.records.tensors import TensorSpec, preprocessing_digest

if TYPE_CHECKING:
    from toolchain.job.job import BuildJob

RELEASE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")  # it names a folder and an image
TOOLS = (
    "torch",
    "torchvision",
    "torch-pruning",
    "nncf",
    "onnx",
    "onnxscript",
    "onnxruntime",
    "openvino",
    "tensorrt-rtx-cu13-libs",
    "nvidia-modelopt",
    "numpy",
    "pillow",
)

# A device with other instructions rounds otherwise: fp32 by the order of sums, int8 by saturation (no VNNI) and by a
# value that falls on the other side of a rounding step; a wrong file or a wrong preprocessing is off by far more.
# Weights that are only stored narrow are computed in fp32, so they are held to what fp32 is.
STORED_NARROW = ("int8w", "int4w", "int2w", "int1w")
GOLDEN_RELATIVE = {
    **dict.fromkeys(("fp32", *STORED_NARROW), 1e-3),
    **dict.fromkeys(("int8", "int8d"), 1.5e-1),
    "fp16": 2e-2,
    "bf16": 5e-2,
}
GOLDEN_AGREEMENT = {
    **dict.fromkeys(("fp32", *STORED_NARROW), 1.0),
    **dict.fromkeys(("bf16", "int8", "int8d"), 0.87),
    "fp16": 0.93,
}


def check_release(release: str | None) -> None:
    """UsageError for a name that no folder or image could bear."""
    if release is not None and not RELEASE.fullmatch(release):
        raise UsageError(f"--release: expected letters and digits, with . _ + - between, like 2026.11; got '{release}'")


def make_bundle(
    job: "BuildJob",
    artifacts: Artifacts,
    reference: Reference,
    steps: tuple[StepRecord, ...],
    evaluation: CandidateEvaluation,
    samples: StageResult[BundleSamples],
    release: str | None,
) -> Bundle:
    """Write the bundle below home()/bundles, or return the one that already says the same."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = gather_files(artifacts, Path(temporary) / "files")
        for path in samples.folder.glob("*.npz"):
            copy2(path, folder / path.name)
        return _write(_manifest(job, reference, steps, evaluation, folder, samples.record), folder, release)


def _manifest(
    job: "BuildJob",
    reference: Reference,
    steps: tuple[StepRecord, ...],
    evaluation: CandidateEvaluation,
    folder: Path,
    samples: BundleSamples,
) -> Manifest:
    recipe, shape = job.recipe, job.recipe.input
    chosen = next(candidate for candidate in evaluation.candidates if candidate.precision == evaluation.chosen)
    files = [file_record(path) for path in sorted(folder.iterdir())]
    accuracy = None
    if reference.accuracy is not None and chosen.accuracy is not None:
        floor = reference.accuracy - recipe.build.max_accuracy_loss / 100
        accuracy = Accuracy(
            part="test",
            images=reference.images,
            fp32=reference.accuracy,
            chosen=chosen.accuracy,
            floor=floor,
            measure=evaluation.measure,
            mean_average_precision=reference.mean_average_precision,
        )
    return Manifest(
        name=recipe.name,
        release="",
        target=job.target,
        model=reference.description,
        inputs=(TensorSpec("image", "uint8", (None, *shape.shape)),),
        outputs=(TensorSpec("logits", "float32", (None, samples.outputs)),),
        labels=reference.labels,
        preprocessing=shape,
        preprocessing_sha256=preprocessing_digest(shape),
        candidates=tuple(
            msgspec.structs.replace(candidate, certify_accuracy=samples.certify_accuracy.get(candidate.precision))
            for candidate in evaluation.candidates
        ),
        chosen=evaluation.chosen,
        choice=evaluation.choice,
        files=tuple(files),
        golden=GoldenTolerances(GOLDEN_RELATIVE, GOLDEN_AGREEMENT),
        needs=needs_of(folder, chosen),
        data=msgspec.structs.replace(samples.data, source=job.data.source),
        accuracy=accuracy,
        certify_accuracy=samples.certify_accuracy.get(evaluation.chosen),
        steps=steps,
        parity=evaluation.parity,
        tools=tool_versions(*TOOLS),
        recipe=job.text,
        choose=recipe.build.choose if recipe.build.prefer == "latency" else "build",
        output=evaluation.output,
    )


def _write(manifest: Manifest, folder: Path, release: str | None) -> Bundle:
    """Under the release's name; without one, under the next number, unless an earlier number already says the same."""
    earlier = _numbered_bundles(manifest.name, manifest.target)
    if release is None:
        release = str(max(earlier, default=0) + 1)
        for number in sorted(earlier, reverse=True):
            named = msgspec.structs.replace(manifest, release=str(number))
            if (earlier[number] / MANIFEST).read_bytes() == encode_record(named):
                release = str(number)
                break
    named = msgspec.structs.replace(manifest, release=release)
    place = _place(manifest, release)
    if place.is_dir() and (place / MANIFEST).read_bytes() == encode_record(named):
        return open_bundle(place)
    return write_bundle(place, named, sorted(folder.iterdir()))


def _place(manifest: Manifest, release: str) -> Path:
    return home() / "bundles" / f"{manifest.name}-{release}-{manifest.target}.bundle"


def _numbered_bundles(name: str, target: str) -> dict[int, Path]:
    """The bundles of this name and target whose release is a plain number."""
    pattern = re.compile(rf"{re.escape(name)}-(\d+)-{re.escape(target)}\.bundle")
    found = ((pattern.fullmatch(path.name), path) for path in sorted((home() / "bundles").glob("*.bundle")))
    return {int(match[1]): path for match, path in found if match and (path / MANIFEST).is_file()}

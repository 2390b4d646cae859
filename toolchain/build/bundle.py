"""What was made and measured -> a bundle with its samples, under a release name.

Knows what a bundle holds and how releases are numbered; measures nothing but the bundle's own golden answers.
"""

import re
import tempfile
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from shutil import copy2

import msgspec
import numpy as np

from deploy.runtime.engines import Settings
from toolchain.backends import backend
from toolchain.backends.needs import needs_of
from toolchain.build.candidates import Made, engine_answers, gathered
from toolchain.build.choose import answers_here
from toolchain.errors import UsageError
from toolchain.job.job import Making, Measured, Reference
from toolchain.job.precisions import quantization, roundings
from toolchain.job.samples import calibration_pictures, certify_pictures, golden_pictures
from toolchain.job.stages import code_digest, keep, kept, tool_versions
from toolchain.paths import home
from toolchain.records.bundle import CERTIFY, MANIFEST, SAMPLE, Bundle, file_record, open_bundle, write_bundle
from toolchain.records.manifest import Accuracy, Candidate, DataRecord, GoldenTolerances, Manifest, StepRecord
from toolchain.records.storage import encode_record
from toolchain.records.tensors import TensorSpec

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


class Samples(msgspec.Struct, frozen=True):
    """certify_accuracy: what each candidate that runs here gets right of certify.npz, the figure that a device must
    reproduce; empty where the data has no such pictures."""

    data: DataRecord
    certify_accuracy: dict[str, float]


def check_release(release: str | None) -> None:
    """UsageError for a name that no folder or image could bear."""
    if release is not None and not RELEASE.fullmatch(release):
        raise UsageError(f"--release: expected letters and digits, with . _ + - between, like 2026.11; got '{release}'")


def bundled(
    making: Making,
    reference: Reference,
    records: tuple[StepRecord, ...],
    made: Made,
    measured: Measured,
    release: str | None,
) -> Bundle:
    """Write the bundle below home()/bundles, or give back the one that already says the same."""
    samples = _sampled(making, made, measured)
    with tempfile.TemporaryDirectory() as temporary:
        folder = gathered(made, Path(temporary) / "files")
        for path in samples.glob("*.npz"):
            copy2(path, folder / path.name)
        manifest = _manifest(making, reference, records, measured, folder, kept(samples, Samples))
        return _written(manifest, folder, release)


def _sampled(making: Making, made: Made, measured: Measured) -> Path:
    """The folder of sample.npz and certify.npz. A stage of its own: an engine need not give the same bytes twice, and
    an unchanged build must end with the same bundle."""

    def make(folder: Path, work: Path) -> None:
        room = backend(making.target)
        here = {one.precision: (place, room.stand_in(one) or one) for place, one in made}
        answered = {one.precision for one in measured.candidates if answers_here(one)}
        asked = tuple(found for precision, found in here.items() if precision in answered)
        candidates = gathered(asked, work / "candidates")
        able = [one for _, one in asked]
        data = _write_samples(making, measured, able, candidates, folder)
        keep(folder, Samples(data, _certify(making, able, candidates)))

    inputs = {
        "artifacts": [folder.name for folder, _ in made],
        "chosen": measured.chosen,
        "able": [one.precision for one in measured.candidates if answers_here(one)],
        "data": making.data.sha256,
        "pictures": making.pictures.sha256,
        "quantization": quantization(making),
        "roundings": roundings(making),
        "threads": making.threads,
        "code": code_digest(
            "toolchain/build/bundle.py",
            "toolchain/build/candidates.py",
            "toolchain/job/samples.py",
            "deploy/runtime/engines",
        ),
    }
    return making.made("samples", "samples: golden answers, and the certificate's pictures", inputs, make)


def _write_samples(
    making: Making, measured: Measured, able: Sequence[Candidate], candidates: Path, folder: Path
) -> DataRecord:
    settings, golden = Settings(making.threads), golden_pictures(making.pictures)
    answers = {f"outputs_{one.precision}": engine_answers(candidates, one, settings, golden) for one in able}
    np.savez(folder / SAMPLE, allow_pickle=False, inputs=golden, **answers)
    images, labels, indices = certify_pictures(making.data)
    if len(images):
        np.savez(folder / CERTIFY, allow_pickle=False, images=images, labels=labels)
    data, calibrated = making.data, _calibrated(making, measured)
    return DataRecord(
        data.name,
        data.source,
        data.sha256,
        making.pictures.name if calibrated else "",
        calibrated,
        "train" if len(images) else "",
        indices,
    )


def _calibrated(making: Making, measured: Measured) -> tuple[int, ...]:
    """The indices that an int8 candidate was calibrated on; none where none was made."""
    how = quantization(making)
    if how is None or how.dynamic or all(one.precision != "int8" for one in measured.candidates):
        return ()
    return calibration_pictures(making.pictures, how.samples, making.recipe.build.seed)[1]


def _certify(making: Making, able: Sequence[Candidate], candidates: Path) -> dict[str, float]:
    images, labels, _ = certify_pictures(making.data)
    if not len(images):
        return {}
    answers = {one.precision: engine_answers(candidates, one, Settings(making.threads), images) for one in able}
    return {precision: float((found.argmax(1) == labels).mean()) for precision, found in answers.items()}


def _manifest(
    making: Making,
    reference: Reference,
    records: tuple[StepRecord, ...],
    measured: Measured,
    folder: Path,
    samples: Samples,
) -> Manifest:
    recipe, shape = making.recipe, making.recipe.input
    chosen = next(one for one in measured.candidates if one.precision == measured.chosen)
    files = [file_record(path) for path in sorted(folder.iterdir())]
    accuracy = None
    if reference.accuracy is not None and chosen.accuracy is not None:
        floor = reference.accuracy - recipe.build.max_accuracy_loss / 100
        accuracy = Accuracy("test", reference.images, reference.accuracy, chosen.accuracy, floor)
    return Manifest(
        name=recipe.name,
        release="",
        target=making.target,
        model=reference.description,
        inputs=(TensorSpec("image", "uint8", (None, *shape.shape)),),
        outputs=(TensorSpec("logits", "float32", (None, len(reference.labels))),),
        labels=reference.labels,
        preprocessing=shape,
        preprocessing_sha256=sha256(encode_record(shape)).hexdigest(),
        candidates=tuple(
            msgspec.structs.replace(one, certify_accuracy=samples.certify_accuracy.get(one.precision))
            for one in measured.candidates
        ),
        chosen=measured.chosen,
        choice=measured.choice,
        files=tuple(files),
        golden=GoldenTolerances(GOLDEN_RELATIVE, GOLDEN_AGREEMENT),
        needs=needs_of(folder, chosen),
        data=msgspec.structs.replace(samples.data, source=making.data.source),
        accuracy=accuracy,
        certify_accuracy=samples.certify_accuracy.get(measured.chosen),
        steps=records,
        parity=measured.parity,
        tools=tool_versions(*TOOLS),
        recipe=making.place.read_text(),
        choose=recipe.build.choose if recipe.build.prefer == "latency" else "build",
    )


def _written(manifest: Manifest, folder: Path, release: str | None) -> Bundle:
    """Under the release's name; without one, under the next number, unless an earlier number already says the same."""
    earlier = _numbered(manifest.name, manifest.target)
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


def _numbered(name: str, target: str) -> dict[int, Path]:
    """The bundles of this name and target whose release is a plain number."""
    pattern = re.compile(rf"{re.escape(name)}-(\d+)-{re.escape(target)}\.bundle")
    found = ((pattern.fullmatch(path.name), path) for path in sorted((home() / "bundles").glob("*.bundle")))
    return {int(match[1]): path for match, path in found if match and (path / MANIFEST).is_file()}

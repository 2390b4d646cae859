"""Does this bundle answer on this device as it did on the build machine?

golden_checks takes milliseconds and precedes readiness at every start; certificate.py runs all checks. Needs no network
and writes nothing. Knows nothing of latency (bench.py) or HTTP.
"""

from hashlib import sha256
from typing import NamedTuple
from zlib import crc32

import numpy as np

from deploy.runtime.certification.offered import refusal_here
from deploy.runtime.device.probe import missing_needs
from deploy.runtime.engines import Engine
from toolchain.records.bundle import CERTIFY, SAMPLE, Bundle
from toolchain.records.certificate import Certificate, Check, allowed_losses, saturation_outcomes
from toolchain.records.fingerprint import Fingerprint
from toolchain.records.output import SOFTMAX, OutputKind, mean_average_precision
from toolchain.records.saturation import adds_at_16_bits
from toolchain.records.tensors import Array, preprocessing_digest

BATCH = 16
ROUNDING = 1e-6  # images: a share times their number is seldom a whole one


def golden_checks(bundle: Bundle, engine: Engine, precision: str | None = None) -> tuple[Check, ...]:
    """Check `engine`, which runs the candidate `precision` (None: the chosen one), on sample.npz's inputs."""
    precision = precision or bundle.manifest.chosen
    sample = bundle.read_arrays(SAMPLE)
    checks = (check_preprocessing(bundle),)
    if f"outputs_{precision}" not in sample:
        held = ", ".join(sorted(sample)) or "nothing"
        return *checks, Check("golden", False, f"{SAMPLE} holds {held}", f"outputs_{precision} in {SAMPLE}")
    golden = bundle.manifest.golden
    if not (precision in golden.relative and precision in golden.top1_agreement):
        held = ", ".join(sorted(golden.relative)) or "nothing"
        return *checks, Check("golden", False, f"the manifest has limits for {held}", f"a limit for {precision}")
    # one at a time: as most requests come, and no second batch size is compiled before the server is ready
    answers = infer_all(engine, sample["inputs"], batch=1)
    limits = golden.relative[precision], golden.top1_agreement[precision]
    return checks + compare_golden(answers, sample[f"outputs_{precision}"], *limits, bundle.manifest.output)


class DeviceEvaluation(NamedTuple):
    """A candidate's checks here. correct: correct answers (or the sum of the images' F1) and images, None where no
    images are labelled; engine: its version; mean_average_precision: over labels that do not exclude each other."""

    checks: tuple[Check, ...]
    correct: tuple[float, int] | None
    engine: str
    mean_average_precision: float | None = None

    @property
    def failed(self) -> tuple[Check, ...]:
        return tuple(check for check in self.checks if not check.passed)

    @property
    def accuracy(self) -> float | None:
        return self.correct[0] / self.correct[1] if self.correct else None


def evaluate_candidate(bundle: Bundle, engine: Engine, precision: str) -> DeviceEvaluation:
    """Check golden answers of `engine`, which runs the candidate `precision`, and its accuracy where the bundle has
    labelled images."""
    answered, manifest = answer_held_out(bundle, engine), bundle.manifest
    checks = golden_checks(bundle, engine, precision)
    if answered is None:  # without labels, accuracy is neither passed nor failed
        return DeviceEvaluation(checks, None, engine.version)
    scores, labels = answered
    grades = manifest.output.grade(scores, labels)
    counted = float(np.sum(grades)), len(grades)
    checks += (check_accuracy(counted, manifest.certified_accuracy(precision), manifest.measure),)
    ranked = mean_average_precision(scores, labels) if manifest.output.is_multilabel(scores.shape[1]) else None
    return DeviceEvaluation(checks, counted, engine.version, ranked)


def compare_golden(
    answers: Array, expected: Array, relative: float, agreement: float, output: OutputKind = SOFTMAX
) -> tuple[Check, ...]:
    """Golden answers [N, classes] against expected ones: shape, finite, distance over the largest expected, top-1."""
    if answers.shape != expected.shape:
        return (Check("golden shape", False, str(list(answers.shape)), str(list(expected.shape))),)
    broken = int(np.sum(~np.isfinite(answers)))
    finite = Check("golden finite", not broken, f"{broken} of {answers.size} answers are NaN or infinite", "all finite")
    if broken:
        return (finite,)
    # An all-zero answer (the null engine's) has no scale of its own: the distance is then absolute.
    scale = float(np.max(np.abs(expected))) or 1.0
    distances = np.max(np.abs(answers.astype(np.float64) - expected), axis=tuple(range(1, answers.ndim))) / scale
    worst = int(np.argmax(distances))
    agreed = float(output.grade(answers, output.decide(expected)).mean())
    found = f"{distances[worst]:.2g} of the largest answer, at image {worst}"
    return (
        finite,
        Check("golden distance", bool(distances[worst] <= relative), found, f"at most {relative:.2g}"),
        Check(
            f"golden {output.measure(answers.shape[1])}",
            agreed >= agreement,
            f"{agreed:.1%} agree",
            f"at least {agreement:.1%}",
        ),
    )


def check_preprocessing(bundle: Bundle) -> Check:
    """The digest that the graph was exported with must be that of the manifest's preprocessing."""
    digest = preprocessing_digest(bundle.manifest.preprocessing)
    expected = bundle.manifest.preprocessing_sha256
    return Check("preprocessing", digest == expected, f"sha256 {digest[:12]}", f"sha256 {expected[:12]}")


def check_needs(bundle: Bundle, device: Fingerprint) -> Check:
    needs = bundle.manifest.needs
    lacking = missing_needs(needs, device) or refusal_here(bundle.manifest)
    gpu = ("an NVIDIA GPU", *(f"compute capability {one / 10:.1f}" for one in needs.compute_capabilities))
    wanted = (needs.architecture, *needs.cpu_isa, *(gpu if needs.gpu else ()))
    return Check("needs", lacking is None, lacking or "all there", ", ".join(wanted))


def check_accuracy(counted: tuple[float, int], built: float | None, measure: str = "top-1") -> Check:
    """At most max(1 point, 1 picture) fewer right than on the build machine.

    The pictures, the artifact and the engine's code are the same on both, so the sampling error of the pictures cancels
    (a paired comparison) and the Wilson interval, some points wide, would be far too kind. What may differ honestly is
    rounding, which flips a picture only where two classes are level, and as often to right as to wrong; a real fault,
    such as INT8 sums that saturate on CPUs without VNNI, costs points (3.3 on a public list, design.md). One picture is
    always allowed, so that a small sample is not refused for one coin's toss. More right than there always passes.
    """
    right, images = counted
    found = f"{right:.0f} of {images} right ({right / images:.2%})"
    if measure != "top-1":
        found = f"{measure} {right / images:.2%} of {images} images"
    if built is None:
        return Check("accuracy", True, found, "nothing: the bundle has no figure of the build machine")
    there, allowed = built * images, allowed_losses(images)
    expected = f"at least {there - allowed:.0f}: {there:.0f} on the build machine ({built:.2%}) less {allowed}"
    if measure != "top-1":
        expected = (
            f"at least {built - allowed / images:.2%}: {built:.2%} on the build machine less {allowed / images:.2%}"
        )
    return Check("accuracy", right >= there - allowed - ROUNDING, found, expected)


def check_saturation(bundle: Bundle, certificate: Certificate) -> Check:
    """Whether this device confirms what the build predicted of int8 sums. Fails where a candidate that was to be exact
    here loses images; what saturates as predicted is not offered, and no failure."""
    outcomes = saturation_outcomes(bundle.manifest, certificate)
    expected = "no images lost by an int8 candidate that the build predicted to be exact"
    if not outcomes:
        device = certificate.fingerprint
        reason = "no int8 candidate was measured here"
        if not adds_at_16_bits(device.architecture, device.cpu_isa):
            reason = "cannot occur: this CPU adds int8 products at 32 bits"
        return Check("saturation", True, reason, expected)
    texts = (
        f"{one.precision}: predicted {'to saturate' if one.predicted else 'exact'}, "
        f"{'loses images' if one.lost else 'as accurate as built'}: {'confirmed' if one.is_hit else 'contradicted'}"
        for one in outcomes
    )
    wrong = any(one.lost and not one.predicted for one in outcomes)
    return Check("saturation", not wrong, "; ".join(texts), expected)


def check_throttling(periods: int) -> Check:
    """Informational, never failed: a quota that throttles makes answers late, not wrong."""
    found = f"throttled in {periods} CPU periods: latencies measured now would mislead" if periods else "none"
    return Check("throttling", True, found, "nothing: not a pass/fail check")


def grade_answers(bundle: Bundle, engine: Engine) -> Array | None:
    """How right each image of certify.npz is answered, 0..1 [N] (OutputKind.grade); None where the bundle has no
    labelled images."""
    answered = answer_held_out(bundle, engine)
    return None if answered is None else bundle.manifest.output.grade(*answered)


def answer_held_out(bundle: Bundle, engine: Engine) -> tuple[Array, Array] | None:
    """The scores for the images of certify.npz, and their labels; None where the bundle has no labelled images."""
    if not bundle.has_file(CERTIFY):
        return None
    sample = bundle.read_arrays(CERTIFY)
    if not len(sample.get("labels", ())):
        return None
    return infer_all(engine, sample["images"]), sample["labels"]


def golden_classes(bundle: Bundle, engine: Engine) -> tuple[tuple[int, ...], str]:
    """The class of each golden image, or a number that stands for its labels, and the digest of those images: what two
    releases can be compared on where nobody has labelled anything."""
    images = bundle.read_arrays(SAMPLE)["inputs"]
    decisions = bundle.manifest.output.decide(infer_all(engine, images))
    numbers = decisions if decisions.ndim == 1 else (crc32(each.tobytes()) for each in decisions)
    return tuple(int(each) for each in numbers), sha256(images.tobytes()).hexdigest()


def infer_all(engine: Engine, images: Array, batch: int = BATCH) -> Array:
    """The first output for all `images`, `batch` at a time."""
    given, asked = engine.inputs[0].name, engine.outputs[0].name
    parts = [images[start : start + batch] for start in range(0, len(images), batch)]
    return np.concatenate([engine.infer({given: part})[asked] for part in parts])

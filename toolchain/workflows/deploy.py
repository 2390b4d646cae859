"""The main job on one page: build, image, container, certificate, benchmark, ledger.

Knows the order, and what need not be done again: a certificate and a report are kept for one image on one device.
"""

import logging
from pathlib import Path
from shlex import quote

import msgspec

from deploy.containers.commands import check_image
from deploy.containers.publishing import PublishedEndpoint
from deploy.containers.serve import ServerContainer, check_start, run_server
from deploy.gate.interleaved import latency_ratio
from deploy.gate.statistics import median
from deploy.images.build import BuiltImage, build_image
from deploy.images.variants import target_variant
from deploy.ledger.ledger import Ledger
from toolchain.build.pipeline import build, cache_for
from toolchain.errors import DeviceError
from toolchain.job.job import read_job
from toolchain.paths import home
from toolchain.progress import quiet
from toolchain.recipe import read_recipe
from toolchain.records.bundle import Bundle
from toolchain.records.certificate import Certificate, Check
from toolchain.records.report import Report
from toolchain.records.selfcheck import SelfCheck
from toolchain.records.storage import write_atomically
from toolchain.workflows.baselines import OPENVINO, TORCH
from toolchain.workflows.benchmark import benchmark_on_device
from toolchain.workflows.certify import certify_on_device

logger = logging.getLogger(__name__)


NOT_RUN = ("container", "certificate", "choice among the candidates", "benchmark", "ledger")


class Outcome(msgspec.Struct, frozen=True):
    """What the main job ended with; `summary` is its last line."""

    bundle: Bundle
    image: BuiltImage
    container: ServerContainer
    certificate: Certificate
    report: Report
    summary: "Summary"
    curl: str


class Unrun(msgspec.Struct, frozen=True):
    """Where the main job stops on a machine without the device: the image is there and found nothing wrong with
    itself."""

    bundle: Bundle
    image: BuiltImage
    selfcheck: SelfCheck
    summary: "UnrunSummary"


class UnrunSummary(msgspec.Struct, frozen=True):
    """not_run: what was not done for want of the device `lacking`."""

    release: str
    target: str
    bundle: str
    precision: str
    accuracy_fp32: float | None
    accuracy: float | None
    image: str
    image_bytes: int
    selfcheck_passed: bool
    lacking: str
    not_run: tuple[str, ...]


class Summary(msgspec.Struct, frozen=True):
    """latency_ms: median, batch 1, in the container; the two baselines beside it were measured in the same run, in
    turn. speedup: torch fp32 over the container, with its 95 % interval. None: that baseline cannot run here."""

    release: str
    target: str
    bundle: str
    url: str
    precision: str
    accuracy_fp32: float | None
    accuracy: float | None
    latency_ms: float
    latency_ms_torch_fp32: float | None
    latency_ms_openvino_fp32: float | None
    speedup: float | None
    speedup_low: float | None
    speedup_high: float | None
    speedup_over_openvino_fp32: float | None
    single_stream_p90_ms: float | None
    offline_per_s: float
    size_bytes: int
    size_bytes_fp32: int | None
    image: str
    image_bytes: int
    cold_start_s: float | None
    peak_memory_bytes: int
    certified: bool


def deploy_recipe(recipe: Path, target: str, release: str | None, reach: PublishedEndpoint) -> Outcome | Unrun:
    """Do all of it; what is unchanged since the last time is not done again. Without the GPU that the target needs, all
    that can be done without: up to the image's check of itself."""
    # what would stop it at the end is said now, not after the minutes of a build
    check_start(f"edge-{read_recipe(recipe).name}", reach)
    bundle = build(recipe, target, release)
    logger.info(f"image: {bundle.manifest.name} {bundle.manifest.release}")
    image = build_image(bundle, None)
    if target_variant(target).gpu:
        found = check_image(image.tag)
        _require(image, "in order", found.checks)
        if found.not_run:
            return _unrun(bundle, image, found)
    with quiet("toolchain"):  # the build has reported the same
        job = read_job(recipe, target)
    cache = cache_for(job)
    given = certify_on_device(cache, image, job.threads)
    _require(image, "certified on this device", given.checks)
    logger.info(f"container: {image.tag} on port {reach.port}")
    container = run_server(image.tag, reach, f"edge-{bundle.manifest.name}")
    measured = benchmark_on_device(job, cache, image, given.precision, container)
    with Ledger() as ledger:
        ledger.record_release(bundle, image.size_bytes)
        ledger.record_certificate(given)
        ledger.record_report(measured)
    return Outcome(
        bundle,
        image,
        container,
        given,
        measured,
        _summary(bundle, image, container, given, measured),
        _curl(bundle, container, reach),
    )


def _require(image: BuiltImage, what: str, checks: tuple[Check, ...]) -> None:
    """DeviceError for the first check that failed."""
    for check in checks:
        if not check.passed:
            raise DeviceError(f"{image.tag} is not {what}: {check.name}: {check.found}, expected {check.expected}")


def _unrun(bundle: Bundle, image: BuiltImage, found: SelfCheck) -> Unrun:
    made = bundle.manifest
    summary = UnrunSummary(
        release=made.release,
        target=made.target,
        bundle=str(bundle.folder),
        precision=made.chosen,
        accuracy_fp32=made.accuracy.fp32 if made.accuracy else None,
        accuracy=made.serving.accuracy,
        image=image.tag,
        image_bytes=image.size_bytes,
        selfcheck_passed=found.passed,
        lacking=found.not_run,
        not_run=NOT_RUN,
    )
    return Unrun(bundle, image, found, summary)


def _summary(
    bundle: Bundle, image: BuiltImage, container: ServerContainer, given: Certificate, found: Report
) -> Summary:
    made, duet, served = bundle.manifest, found.interleaved, bundle.manifest.candidate(given.precision)
    assert duet is not None  # benchmark_on_device always measures one
    medians = {name: median([one for slice_ in slices for one in slice_]) for name, slices in duet.latencies_ms.items()}
    over_torch = latency_ratio(duet, TORCH, served.precision) if TORCH in medians else None
    over_openvino = latency_ratio(duet, OPENVINO, served.precision) if OPENVINO in medians else None
    single, offline = found.scenario("SingleStream"), found.scenario("Offline")
    return Summary(
        release=made.release,
        target=made.target,
        bundle=str(bundle.folder),
        url=container.url,
        precision=served.precision,
        accuracy_fp32=made.accuracy.fp32 if made.accuracy else None,
        accuracy=served.accuracy,
        latency_ms=medians[served.precision],
        latency_ms_torch_fp32=medians.get(TORCH),
        latency_ms_openvino_fp32=medians.get(OPENVINO),
        speedup=over_torch[0] if over_torch else None,
        speedup_low=over_torch[1] if over_torch else None,
        speedup_high=over_torch[2] if over_torch else None,
        speedup_over_openvino_fp32=over_openvino[0] if over_openvino else None,
        single_stream_p90_ms=single.percentile_ms(90.0),
        offline_per_s=offline.throughput_per_s,
        size_bytes=served.size_bytes,
        size_bytes_fp32=made.steps[0].size_bytes if made.steps else None,
        image=image.tag,
        image_bytes=image.size_bytes,
        cold_start_s=found.cold_start_s,
        peak_memory_bytes=found.peak_memory_bytes,
        certified=given.passed,
    )


def _curl(bundle: Bundle, container: ServerContainer, reach: PublishedEndpoint) -> str:
    """A line that works when pasted: it sends a held-out picture, written beside the bundle as PNG."""
    from io import BytesIO

    from PIL import Image as Picture

    pixels = bundle.read_arrays("sample.npz")["inputs"][0]
    picture, content = home() / f"{bundle.manifest.name}.png", BytesIO()
    Picture.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels).save(content, "png")
    write_atomically(picture, content.getvalue())
    place = picture.relative_to(Path.cwd()) if picture.is_relative_to(Path.cwd()) else picture
    address = f"{container.url}/v2/models/{bundle.manifest.name}/infer"
    shown = "".join(f"{flag} " for flag in reach.curl_flags)
    return f"curl -s {shown}--data-binary @{quote(str(place))} -H 'Content-Type: image/png' {address}"

"""The main job on one page: build, image, container, certificate, benchmark, ledger.

Knows the order and what can be reused: a certificate and a report are cached per image and device.
"""

from pathlib import Path
from shlex import quote

import msgspec

from deploy.containers.commands import check_image
from deploy.containers.publishing import PublishedEndpoint
from deploy.containers.replace import ReplacementGate
from deploy.containers.serve import ServerContainer, check_start, run_server
from deploy.gate.interleaved import latency_ratio
from deploy.gate.statistics import median
from deploy.images.build import BuiltImage, build_image
from deploy.images.variants import target_variant
from deploy.ledger.ledger import Ledger
from toolchain.build.pipeline import STAGES, build, cache_for
from toolchain.errors import DeviceError
from toolchain.job.job import read_job
from toolchain.job.milestones import begin_stage, count_stages
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

OWN_STAGES = 4  # image, certificate, container, benchmark
NOT_RUN = ("container", "certificate", "choice among the candidates", "benchmark", "ledger")


class Outcome(msgspec.Struct, frozen=True):
    """The result of deploy; `summary` is the last line that it prints."""

    bundle: Bundle
    image: BuiltImage
    container: ServerContainer
    certificate: Certificate
    report: Report
    summary: "Summary"
    curl: str


class Unrun(msgspec.Struct, frozen=True):
    """The result of deploy on a machine without the target's device: an image that passed its self-check."""

    bundle: Bundle
    image: BuiltImage
    selfcheck: SelfCheck
    summary: "UnrunSummary"


class UnrunSummary(msgspec.Struct, frozen=True):
    """not_run: what could not run without the device; lacking: the reason."""

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
    """latency_ms: median, batch 1, in the container; the two baselines were measured in turn in the same run. speedup:
    latency of torch fp32 divided by the container's, with its 95 % interval. None: that baseline cannot run here."""

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


def deploy_recipe(
    recipe: Path, target: str, release: str | None, endpoint: PublishedEndpoint, gate: ReplacementGate | None
) -> Outcome | Unrun:
    """Run all stages, reusing unchanged results. Without the GPU that the target needs, stop after the image's
    self-check. gate: of the release that serves on that port, which serves on if the new one fails it."""
    # report now what would otherwise fail only after minutes of building
    check_start(f"edge-{read_recipe(recipe).name}", endpoint)
    with count_stages(STAGES + OWN_STAGES):
        return _deploy(recipe, target, release, endpoint, gate)


def _deploy(
    recipe: Path, target: str, release: str | None, endpoint: PublishedEndpoint, gate: ReplacementGate | None
) -> Outcome | Unrun:
    bundle = build(recipe, target, release)
    begin_stage(f"image: {bundle.manifest.name} {bundle.manifest.release}")
    image = build_image(bundle, None)
    if target_variant(target).gpu:
        selfcheck = check_image(image.tag)
        _require(image, "usable", selfcheck.checks)
        if selfcheck.not_run:
            return _unrun(bundle, image, selfcheck)
    with quiet("toolchain"):  # the build has already reported this
        job = read_job(recipe, target)
    cache = cache_for(job)
    begin_stage("certificate: the container checks and measures itself")
    certificate = certify_on_device(cache, image, job.threads)
    _require(image, "certified on this device", certificate.checks)
    begin_stage(f"container: {image.tag} on port {endpoint.port or 'that is free'}")
    container = run_server(image.tag, endpoint, gate=gate, default_name=f"edge-{bundle.manifest.name}")
    begin_stage("benchmark: PyTorch, the original model and the container in turn")
    report = benchmark_on_device(job, cache, image, certificate.precision, container)
    with Ledger() as ledger:
        ledger.record_release(bundle, image.size_bytes)
        ledger.record_certificate(certificate)
        ledger.record_report(report)
    return Outcome(
        bundle,
        image,
        container,
        certificate,
        report,
        _summary(bundle, image, container, certificate, report),
        _curl(bundle, container, endpoint),
    )


def _require(image: BuiltImage, what: str, checks: tuple[Check, ...]) -> None:
    """DeviceError for the first check that failed."""
    for check in checks:
        if not check.passed:
            raise DeviceError(f"{image.tag} is not {what}: {check.name}: {check.found}, expected {check.expected}")


def _unrun(bundle: Bundle, image: BuiltImage, selfcheck: SelfCheck) -> Unrun:
    manifest = bundle.manifest
    summary = UnrunSummary(
        release=manifest.release,
        target=manifest.target,
        bundle=str(bundle.folder),
        precision=manifest.chosen,
        accuracy_fp32=manifest.accuracy.fp32 if manifest.accuracy else None,
        accuracy=manifest.serving.accuracy,
        image=image.tag,
        image_bytes=image.size_bytes,
        selfcheck_passed=selfcheck.passed,
        lacking=selfcheck.not_run,
        not_run=NOT_RUN,
    )
    return Unrun(bundle, image, selfcheck, summary)


def _summary(
    bundle: Bundle, image: BuiltImage, container: ServerContainer, certificate: Certificate, report: Report
) -> Summary:
    manifest, interleaved, served = (
        bundle.manifest,
        report.interleaved,
        bundle.manifest.candidate(certificate.precision),
    )
    assert interleaved is not None  # benchmark_on_device always measures one
    medians = {
        name: median([latency_ms for slice_ in slices for latency_ms in slice_])
        for name, slices in interleaved.latencies_ms.items()
    }
    over_torch = latency_ratio(interleaved, TORCH, served.precision) if TORCH in medians else None
    over_openvino = latency_ratio(interleaved, OPENVINO, served.precision) if OPENVINO in medians else None
    single, offline = report.scenario("SingleStream"), report.scenario("Offline")
    return Summary(
        release=manifest.release,
        target=manifest.target,
        bundle=str(bundle.folder),
        url=container.url,
        precision=served.precision,
        accuracy_fp32=manifest.accuracy.fp32 if manifest.accuracy else None,
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
        size_bytes_fp32=manifest.steps[0].size_bytes if manifest.steps else None,
        image=image.tag,
        image_bytes=image.size_bytes,
        cold_start_s=report.cold_start_s,
        peak_memory_bytes=report.peak_memory_bytes,
        certified=certificate.passed,
    )


def _curl(bundle: Bundle, container: ServerContainer, endpoint: PublishedEndpoint) -> str:
    """A command to try the server: it sends a sample image, which is written to the state directory as PNG."""
    from io import BytesIO

    from PIL import Image

    pixels = bundle.read_arrays("sample.npz")["inputs"][0]
    file, content = home() / f"{bundle.manifest.name}.png", BytesIO()
    Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels).save(content, "png")
    write_atomically(file, content.getvalue())
    place = file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file
    address = f"{container.url}/v2/models/{bundle.manifest.name}/infer"
    shown = "".join(f"{flag} " for flag in endpoint.curl_flags)
    return f"curl -s {shown}--data-binary @{quote(str(place))} -H 'Content-Type: image/png' {address}"

"""The commands that leave a container serving on this machine, and the one that ends it."""

from pathlib import Path
from typing import TYPE_CHECKING

from toolchain.cli.choices import Target

if TYPE_CHECKING:
    from toolchain.workflows.deploy import Outcome, Unrun


def run(
    image: str,
    *,
    port: int = 8080,
    grpc_port: int | None = None,
    public: bool = False,
    secrets: Path | None = None,
    cert: Path | None = None,
    key: Path | None = None,
    name: str | None = None,
    cpus: float | None = None,
    skip_gate: bool = False,
    gate_minutes: float = 5.0,
) -> None:
    """Start a container, wait until it is ready, and report how long its first response took.

    What serves on that port is replaced only once the new one is ready and passed the gate against it; if either fails,
    it still serves. One of the same model on another port stays.

    Args:
        image: the image's tag
        port: the HTTP port on this machine; 0 for any free port
        grpc_port: the gRPC port on this machine; 0 for any free port; by default only HTTP is served
        public: publish the ports on all interfaces; by default only clients on this machine reach them
        secrets: a folder with tls.crt and tls.key, client-ca.crt, tokens, or some of them; by default none is asked for
        cert: the client certificate for the readiness check, if the folder has a client-ca.crt
        key: the private key of that certificate
        name: the container's name, by default the image's; an older container of that name is replaced, its port too
        cpus: the CPU quota, in cores
        skip_gate: replace what serves although it may be slower or less accurate
        gate_minutes: the limit for each of at most two runs of the gate
    """
    from deploy.containers.publishing import parse_endpoint
    from deploy.containers.serve import run_server as started
    from deploy.gate.replacement import replacement_gate
    from toolchain.views.bundle import as_json

    reached = parse_endpoint(port, grpc_port, secrets, cert, key, public)
    print(as_json(started(image, reached, name, cpus=cpus, gate=replacement_gate(skip_gate, gate_minutes))))


def stop(name: str) -> None:
    """Stop and remove a container that `run` or `deploy` started, after the requests in flight have finished.

    Args:
        name: the container's name
    """
    from deploy.containers.serve import server_names, stop_server
    from toolchain.errors import UsageError
    from toolchain.views.bundle import as_json

    if not stop_server(name):
        there = ", ".join(server_names()) or "none"
        raise UsageError(f"stop {name}: no such container; of those that run or deploy started there are: {there}")
    print(as_json({"name": name, "stopped": True}))


def deploy(
    recipe: Path,
    *,
    target: Target = "openvino",
    release: str | None = None,
    port: int = 8080,
    grpc_port: int | None = None,
    public: bool = False,
    secrets: Path | None = None,
    cert: Path | None = None,
    key: Path | None = None,
    skip_gate: bool = False,
    gate_minutes: float = 5.0,
    track: str | None = None,
) -> None:
    """Build a recipe, pack it into an image, certify and benchmark it, and leave its container serving.

    What serves on that port is replaced only once the new one is ready and passed the gate against it; if either fails,
    it still serves. One of the same model on another port stays.

    For a GPU that is not in this machine it ends with the image's self-check and reports what was not run.

    Args:
        recipe: a TOML file; see recipes/
        target: the engine to build for
        release: the name of the release; by default the next number, or the last one if nothing changed
        port: the HTTP port on this machine; 0 for any free port
        grpc_port: the gRPC port on this machine; 0 for any free port; by default only HTTP is served
        public: publish the ports on all interfaces; by default only clients on this machine reach them
        secrets: a folder with tls.crt and tls.key, client-ca.crt, tokens, or some of them; by default none is asked for
        cert: the client certificate for the readiness check, if the folder has a client-ca.crt
        key: the private key of that certificate
        skip_gate: replace what serves although it may be slower or less accurate
        gate_minutes: the limit for each of at most two runs of the gate
        track: also write the build's history to mlflow:URI, tensorboard:FOLDER or wandb:FOLDER (offline)
    """
    from toolchain.job.early_checks import check_recipe
    from toolchain.tracking import parse_track

    tracker = parse_track(track)
    check_recipe(recipe)
    from msgspec.structs import asdict

    from deploy.containers.publishing import parse_endpoint
    from deploy.gate.replacement import replacement_gate
    from toolchain.tracking.run import tracked_run
    from toolchain.views.bundle import as_json
    from toolchain.workflows.deploy import deploy_recipe

    endpoint = parse_endpoint(port, grpc_port, secrets, cert, key, public)
    outcome = deploy_recipe(recipe, target, release, endpoint, replacement_gate(skip_gate, gate_minutes))
    report = _print_outcome(outcome)
    if tracker:
        print(f"tracked: {tracker.write(tracked_run(outcome.bundle, report, asdict(outcome.summary)))}", end="\n\n")
    print(as_json(outcome.summary))


def _print_outcome(outcome: "Outcome | Unrun") -> Path:
    """A screen of it; all else is in the report, whose page is returned."""
    from toolchain.cli.pages import outcome_page, shorten_path, unrun_page
    from toolchain.report.build_report import report_build
    from toolchain.report.release_report import report_release
    from toolchain.workflows.deploy import Unrun

    if isinstance(outcome, Unrun):
        report = report_build(outcome.bundle)
        print(unrun_page(outcome, shorten_path(report)), end="\n\n")
        return report
    report = Path(report_release(outcome.bundle.manifest.name, outcome.summary.release)["report"])
    print(outcome_page(outcome, shorten_path(report)), end="\n\n")
    return report

"""The verbs of `toolchain`. One thin function a verb; each imports its room inside itself, so that --help is quick.

Results go to stdout, progress to stderr; the last line of every verb that measures or makes something is one JSON
document.
"""

import sys
from pathlib import Path

from toolchain.cli.certificate import bench, certify, verify
from toolchain.cli.gate import gate, gate_selftest
from toolchain.cli.ledger import export, history, import_, report
from toolchain.cli.parser import run as run_arguments
from toolchain.cli.release import manifests, release_sbom, release_sign, release_verify
from toolchain.cli.ship import audit, logs, pack, rollback, servers, ship, status, unlock, unpack
from toolchain.cli.signature import Commands


def doctor(*, json: bool = False) -> None:
    """Say what this machine has and lacks: engine, CPU features, quota, GPU, versions, disk.

    Args:
        json: print one JSON line instead of the table
    """
    from toolchain.cli.pages import findings_page
    from toolchain.views.bundle import as_json
    from toolchain.workflows.doctor import examined, sound

    found = examined()
    print(as_json({"findings": found}) if json else findings_page(found))
    if not sound(found):
        raise SystemExit(1)


def data_fetch(name: str, *, source: str = "auto") -> None:
    """Fetch a data set, check it and unpack it.

    Args:
        name: cifar10, svhn, fashion-mnist or imagenet-photos
        source: official, mirror, or auto (official first)
    """
    from toolchain.data import fetch
    from toolchain.views.bundle import as_json

    print(as_json({"data": name, "folder": str(fetch(name, source))}))


def build(recipe: Path, *, target: str = "openvino", release: str | None = None) -> None:
    """Make a bundle: data, model, steps, ONNX, artifacts, parity, choice.

    Args:
        recipe: a TOML file; see recipes/
        target: openvino, onnxruntime or null
        release: the release's name; without it the next number, or the old one when nothing changed
    """
    from toolchain.build.pipeline import build as built
    from toolchain.views.bundle import as_json, bundle_summary, candidates_table, parity_table, steps_table

    bundle = built(recipe, target, release)
    for part in (steps_table, candidates_table, parity_table):
        print(part(bundle.manifest), end="\n\n")
    print(as_json(bundle_summary(bundle)))


def compare(*recipes: Path, target: str = "openvino") -> None:
    """What each step of each recipe promised beside what was measured of it, all in one run: speed, accuracy, size.

    Tells what does not pay and why; stops at nothing, also where a recipe says refuse = true.

    Args:
        recipes: TOML files; see recipes/
        target: openvino, onnxruntime or null
    """
    from toolchain.views.bundle import as_json
    from toolchain.views.steps import compared_page
    from toolchain.workflows.compare import compared

    found = compared(recipes, target)
    print(compared_page([(one.name, one.steps) for one in found]), end="\n\n")
    print(as_json({"target": target, "recipes": found}))


def evaluate(
    where: str,
    *,
    recipe: Path | None = None,
    token_file: Path | None = None,
    ca: Path | None = None,
    cert: Path | None = None,
    key: Path | None = None,
) -> None:
    """Top-1 accuracy over the whole test part, by a running container, a bundle's engine or the torch model.

    Args:
        where: http(s)://HOST:PORT of a container, a bundle's folder, or a recipe (the trained model in fp32 torch)
        recipe: whose data to ask with; a URL or a bundle needs it
        token_file: the container's tokens; its first is shown
        ca: who signed the container's certificate, in PEM; without it whom this system trusts
        cert: a client certificate to show to the container, in PEM
        key: the key of that certificate
    """
    from deploy.containers.credentials import Credentials
    from toolchain.views.bundle import as_json
    from toolchain.workflows.evaluate import evaluated

    print(as_json(evaluated(where, recipe, Credentials(token_file, ca, cert, key))))


def weights(recipe: Path, *, out: Path, step: int | None = None, target: str = "openvino") -> None:
    """Write the torch weights of a recipe's net, after its steps, as .safetensors; a recipe can start from them.

    Args:
        recipe: a TOML file; see recipes/
        out: the .safetensors file to write
        step: after which step, 0 being the model as it came; without it the last one on torch
        target: the engine that steps measure latency on; as for build
    """
    from toolchain.views.bundle import as_json
    from toolchain.views.weights import weights_table
    from toolchain.workflows.weights import write

    record, written = write(recipe, out, step, target)
    print(weights_table(record), end="\n\n")
    print(as_json(written))


def image(bundle: Path, *, tag: str | None = None, tracing: bool = False) -> None:
    """Pack a bundle into its device's container image.

    Args:
        bundle: the folder that `build` made
        tag: the image's name; without it edge-NAME:RELEASE-TARGET
        tracing: with OpenTelemetry in it, for servers that are told of a collector (OTEL_EXPORTER_OTLP_ENDPOINT)
    """
    from deploy.images.build import build_image
    from toolchain.records.bundle import open_bundle
    from toolchain.views.bundle import as_json

    print(as_json(build_image(open_bundle(bundle), tag, tracing=tracing)))


def run(
    image: str,
    *,
    port: int = 8080,
    grpc_port: int | None = None,
    secrets: Path | None = None,
    cert: Path | None = None,
    key: Path | None = None,
    name: str | None = None,
    cpus: float | None = None,
) -> None:
    """Start a container, wait until it is ready, and say how long its first answer took.

    Args:
        image: the image's tag
        port: where it serves on this machine
        grpc_port: where it serves gRPC on this machine, 0 being any free port; without it only HTTP
        secrets: a folder with tls.crt and tls.key, client-ca.crt, tokens, or some of them; without it open to all
        cert: a client certificate to ask the container with, where there is a client-ca.crt
        key: the key of that certificate
        name: the container's name; without it the image's; our older one of that name is replaced
        cpus: CPU quota
    """
    from deploy.containers.publishing import reach
    from deploy.containers.serve import run as started
    from toolchain.views.bundle import as_json

    reached = reach(port, grpc_port, secrets, cert, key)
    print(as_json(started(image, reached, name, cpus=cpus)))


def stop(name: str) -> None:
    """Stop and remove a container that `run` or `deploy` started; requests in flight are finished first.

    Args:
        name: the container's name
    """
    from deploy.containers.serve import stop as stopped
    from toolchain.views.bundle import as_json

    print(as_json({"name": name, "stopped": stopped(name)}))


def deploy(
    recipe: Path,
    *,
    target: str = "openvino",
    release: str | None = None,
    port: int = 8080,
    grpc_port: int | None = None,
    secrets: Path | None = None,
    cert: Path | None = None,
    key: Path | None = None,
) -> None:
    """The main job: build, image, container, certificate, benchmark, ledger; ends with the container serving. For a GPU
    that is not here, it ends with the image's check of itself, and says what was not run.

    Args:
        recipe: a TOML file; see recipes/
        target: openvino, onnxruntime or null
        release: the release's name; without it the next number, or the old one when nothing changed
        port: where the container serves on this machine
        grpc_port: where it serves gRPC on this machine, 0 being any free port; without it only HTTP
        secrets: a folder with tls.crt and tls.key, client-ca.crt, tokens, or some of them; without it open to all
        cert: a client certificate to ask the container with, where there is a client-ca.crt
        key: the key of that certificate
    """
    from deploy.containers.publishing import reach
    from toolchain.cli.pages import outcome_page, unrun_page
    from toolchain.views.bundle import as_json
    from toolchain.workflows.deploy import Unrun, deployed

    outcome = deployed(recipe, target, release, reach(port, grpc_port, secrets, cert, key))
    print(unrun_page(outcome) if isinstance(outcome, Unrun) else outcome_page(outcome), end="\n\n")
    print(as_json(outcome.summary))


def show(what: str) -> None:
    """Describe a bundle, an image or a weights file: model, candidates, accuracy, samples, needs, versions.

    Args:
        what: a bundle's folder, an image's tag, or a .safetensors file
    """
    if what.endswith(".safetensors"):
        _show_weights(Path(what))
        return
    from deploy.containers.commands import described
    from toolchain.views.bundle import as_json, manifest_page

    manifest = described(what)
    print(manifest_page(manifest), end="\n\n")
    print(as_json(manifest))


def _show_weights(path: Path) -> None:
    from toolchain.records.weights import require_weights
    from toolchain.views.bundle import as_json
    from toolchain.views.weights import weights_table

    record = require_weights(path)
    print(weights_table(record), end="\n\n")
    print(as_json(record))


COMMANDS: Commands = {
    "deploy": deploy,
    "build": build,
    "compare": compare,
    "eval": evaluate,
    "weights": weights,
    "image": image,
    "run": run,
    "stop": stop,
    "certify": certify,
    "verify": verify,
    "bench": bench,
    "gate": gate,
    "gate selftest": gate_selftest,
    "servers": servers,
    "release": {"sign": release_sign, "verify": release_verify, "sbom": release_sbom},
    "manifests": manifests,
    "pack": pack,
    "unpack": unpack,
    "ship": ship,
    "status": status,
    "rollback": rollback,
    "logs": logs,
    "audit": audit,
    "unlock": unlock,
    "history": history,
    "report": report,
    "export": export,
    "import": import_,
    "show": show,
    "data": {"fetch": data_fetch},
    "doctor": doctor,
}


def main() -> None:
    raise SystemExit(run_arguments(COMMANDS, sys.argv[1:]))


if __name__ == "__main__":
    main()

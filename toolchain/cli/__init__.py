"""The commands of `toolchain`: one thin function each, which imports its room inside itself, so that --help is quick.

Results go to stdout, progress to stderr; the last line of every command that measures or makes something is one JSON
document.
"""

import sys
from pathlib import Path

from toolchain.cli.certificate import bench, certificate_verify, certify
from toolchain.cli.choices import DataName, ShellName, Source, Target
from toolchain.cli.console import scan_seldom
from toolchain.cli.deploy import deploy, run, stop
from toolchain.cli.gate import gate, gate_selftest
from toolchain.cli.image import image, image_sbom, image_sign, image_verify, manifests, show
from toolchain.cli.init import init, search
from toolchain.cli.ledger import ledger_export, ledger_history, ledger_import, report
from toolchain.cli.parser import run as run_arguments
from toolchain.cli.renamed import current_spelling
from toolchain.cli.schema import inventory_schema, recipe_schema
from toolchain.cli.ship import audit, logs, pack, rollback, servers, ship, status, unlock, unpack
from toolchain.cli.signature import Sections


def doctor(*, json: bool = False) -> None:
    """Check what this machine has and lacks: engine, CPU features, quota, GPU, versions, disk.

    Args:
        json: print one JSON line instead of the table
    """
    from toolchain.cli.pages import findings_page
    from toolchain.views.bundle import as_json
    from toolchain.workflows.doctor import examine_machine, sound

    findings = examine_machine()
    print(as_json({"findings": findings}) if json else findings_page(findings))
    if not sound(findings):
        raise SystemExit(1)


def data_fetch(name: DataName, *, source: Source = "auto") -> None:
    """Download a data set, verify it and unpack it.

    Args:
        name: cifar10, svhn, fashion-mnist or imagenet-photos
        source: where from; auto tries the official one first
    """
    from toolchain.data import fetch
    from toolchain.views.bundle import as_json

    print(as_json({"data": name, "folder": str(fetch(name, source))}))


def build(recipe: Path, *, target: Target = "openvino", release: str | None = None, track: str | None = None) -> None:
    """Make a bundle: train and compress the model, export it, build and compare the candidates, choose one.

    Args:
        recipe: a TOML file; see recipes/
        target: the engine to build for
        release: the name of the release; by default the next number, or the last one if nothing changed
        track: also write the build's history to mlflow:URI, tensorboard:FOLDER or wandb:FOLDER (offline)
    """
    from toolchain.job.early_checks import check_recipe
    from toolchain.tracking import parse_track

    tracker = parse_track(track)
    check_recipe(recipe)
    from toolchain.build.pipeline import build as built
    from toolchain.cli.pages import built_page, shorten_path
    from toolchain.report.build_report import report_build
    from toolchain.tracking.run import tracked_run
    from toolchain.views.bundle import as_json, bundle_summary

    bundle = built(recipe, target, release)
    report = report_build(bundle)
    print(built_page(bundle, shorten_path(report)), end="\n\n")
    if tracker:
        print(f"tracked: {tracker.write(tracked_run(bundle, report))}", end="\n\n")
    print(as_json(bundle_summary(bundle)))


def compare(*recipes: Path, target: Target = "openvino") -> None:
    """Compare the predicted with the measured effect of each step of each recipe: speed, accuracy, size.

    Reports which steps do not pay and why. Never stops at one, even where a recipe sets refuse = true.

    Args:
        recipes: TOML files; see recipes/
        target: the engine to measure on
    """
    from toolchain.job.early_checks import check_recipe

    for recipe in recipes:
        check_recipe(recipe)
    from toolchain.views.bundle import as_json
    from toolchain.views.steps import compared_page
    from toolchain.workflows.compare import compare_recipes

    comparisons = compare_recipes(recipes, target)
    print(compared_page([(comparison.name, comparison.steps) for comparison in comparisons]), end="\n\n")
    print(as_json({"target": target, "recipes": comparisons}))


def evaluate(
    where: str,
    *,
    recipe: Path | None = None,
    token_file: Path | None = None,
    ca: Path | None = None,
    cert: Path | None = None,
    key: Path | None = None,
) -> None:
    """Measure accuracy on the whole test split: of a running container, a bundle, or a recipe's torch model.

    Args:
        where: http(s)://HOST:PORT of a container, a bundle's folder, or a recipe (the trained model in fp32 torch)
        recipe: the recipe that names the test data; required for a URL or a bundle
        token_file: a file with the container's tokens; the first is sent
        ca: the authority that signed the container's certificate, in PEM; by default the system's authorities
        cert: a client certificate, in PEM
        key: the private key of that certificate
    """
    from toolchain.cli.words import require_evaluated

    require_evaluated(where, recipe)
    from deploy.containers.credentials import Credentials
    from toolchain.views.bundle import as_json
    from toolchain.workflows.evaluate import evaluate_accuracy

    print(as_json(evaluate_accuracy(where, recipe, Credentials(token_file, ca, cert, key))))


def weights(recipe: Path, *, out: Path, step: int | None = None, target: Target = "openvino") -> None:
    """Write the torch weights of a recipe's model, after its steps, as .safetensors; a recipe can start from them.

    Args:
        recipe: a TOML file; see recipes/
        out: the .safetensors file to write
        step: the number of the last step to apply, 0 for none; by default the last step that runs on torch
        target: the engine that steps measure latency on
    """
    from toolchain.job.early_checks import check_recipe

    check_recipe(recipe)
    from toolchain.views.bundle import as_json
    from toolchain.views.weights import weights_table
    from toolchain.workflows.weights import write

    record, written = write(recipe, out, step, target)
    print(weights_table(record), end="\n\n")
    print(as_json(written))


def completion(shell: ShellName) -> None:
    """Print a script by which a shell completes commands, flags and their values.

    bash: eval "$(toolchain completion bash)" in ~/.bashrc; zsh: the same with zsh in ~/.zshrc, after compinit; fish:
    toolchain completion fish > ~/.config/fish/completions/toolchain.fish.

    Args:
        shell: bash, zsh or fish
    """
    from toolchain.cli.completion import completion_script

    print(completion_script(COMMANDS, shell), end="")


SECTIONS: Sections = {
    "First steps": {
        "doctor": doctor,
        "init": init,
        "build": build,
        "deploy": deploy,
        "show": show,
    },
    "Make a bundle": {
        "data": {"fetch": data_fetch},
        "compare": compare,
        "search": search,
        "weights": weights,
        "recipe": {"schema": recipe_schema},
    },
    "Container": {
        "image": image,
        "image verify": image_verify,
        "image sbom": image_sbom,
        "image sign": image_sign,
        "run": run,
        "stop": stop,
        "kubernetes": {"manifests": manifests},
    },
    "Judge": {
        "eval": evaluate,
        "certify": certify,
        "certificate": {"verify": certificate_verify},
        "bench": bench,
        "gate": gate,
        "gate selftest": gate_selftest,
    },
    "Ship": {
        "servers": servers,
        "ship": ship,
        "status": status,
        "rollback": rollback,
        "pack": pack,
        "unpack": unpack,
        "logs": logs,
        "audit": audit,
        "unlock": unlock,
        "inventory": {"schema": inventory_schema},
    },
    "Ledger": {
        "ledger": {"history": ledger_history, "export": ledger_export, "import": ledger_import},
        "report": report,
    },
    "Shell": {
        "completion": completion,
    },
}
COMMANDS = {word: entry for commands in SECTIONS.values() for word, entry in commands.items()}


def main() -> None:
    scan_seldom()
    raise SystemExit(run_arguments(COMMANDS, current_spelling(sys.argv[1:]), sections=SECTIONS))


if __name__ == "__main__":
    main()

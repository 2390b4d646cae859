"""Who may import whom: the rooms of docs/development/architecture.md, read from the sources."""

import re
import subprocess
import sys
from collections import Counter

import pytest

from tests.house.tree import OURS, ROOT, Import, below, cyclic_imports, imports, modules, tracked

# A room and what of ours it may import, beside itself. The first row that holds a module counts; everything may import
# toolchain.errors, records, text_files and failures, and the version in `toolchain` and `deploy`.
EVERYWHERE = ("toolchain.errors", "toolchain.records", "toolchain.text_files", "toolchain.failures")
RULES: dict[str, tuple[str, ...]] = {
    # leaves
    "toolchain.errors": (),
    "toolchain.paths": (),
    "toolchain.interrupts": (),
    "toolchain.tables": (),
    "toolchain.progress": ("toolchain.interrupts",),
    "toolchain.text_files": ("toolchain.errors",),
    "toolchain.failures": ("toolchain.errors", "toolchain.installation", "toolchain.paths", "toolchain.records"),
    "toolchain.records": ("toolchain.errors",),
    "toolchain.webhook": ("deploy.ship",),
    "toolchain.installation": (),
    "toolchain.recipe": (),
    "toolchain.recipe_toml": ("toolchain.recipe",),
    "toolchain.recipe_files": ("toolchain.recipe",),
    # what makes a bundle
    "toolchain.data": ("toolchain.recipe", "toolchain.paths", "toolchain.progress", "deploy.runtime.preprocessing"),
    "toolchain.models": ("toolchain.recipe", "toolchain.recipe_files", "toolchain.data"),
    "toolchain.transform": (
        *("toolchain.data", "toolchain.models", "toolchain.progress", "deploy.runtime.preprocessing"),
    ),
    "toolchain.compress.steps": ("toolchain.recipe", "toolchain.compress", "toolchain.data", "toolchain.models"),
    "toolchain.compress.distillation": (
        *("toolchain.recipe", "toolchain.models", "toolchain.compress.training", "toolchain.compress.quantization"),
        "toolchain.compress",
    ),
    "toolchain.compress.pruning": (
        *("toolchain.data", "toolchain.models", "toolchain.progress", "toolchain.compress.training"),
        "toolchain.compress",
    ),
    "toolchain.compress.training": ("toolchain.models", "toolchain.progress", "toolchain.compress"),
    "toolchain.compress.quantization": ("toolchain.models", "toolchain.progress", "toolchain.compress"),
    "toolchain.compress": ("toolchain.data", "toolchain.models", "toolchain.progress"),
    # quantization-aware layers are exported as the integers that they learned
    "toolchain.export": ("toolchain.data", "toolchain.models", "toolchain.progress", "toolchain.compress.quantization"),
    # the same builder here, for a GPU that is not here, and on the device
    "toolchain.backends": (
        *("toolchain.recipe", "toolchain.progress", "toolchain.installation"),
        *("deploy.runtime.device.cuda", "deploy.runtime.engines.tensorrt_plan", "deploy.runtime.engines.saturation"),
    ),
    "toolchain.parity": (),
    "toolchain.accuracy": ("toolchain.data",),
    "toolchain.job": (
        *("toolchain.recipe", "toolchain.recipe_files"),
        *("toolchain.paths", "toolchain.progress", "toolchain.interrupts"),
        *("toolchain.data", "toolchain.models", "toolchain.compress", "toolchain.backends", "toolchain.transform"),
        *("deploy.runtime.device", "deploy.runtime.engines"),
    ),
    # parity and the choice are made with the engines that will serve
    "toolchain.build": (
        *("toolchain.job", "toolchain.data", "toolchain.models", "toolchain.compress", "toolchain.export"),
        *("toolchain.backends", "toolchain.parity", "toolchain.accuracy", "toolchain.views.steps", "toolchain.paths"),
        "toolchain.transform",
        *("deploy.runtime.device", "deploy.runtime.engines"),
    ),
    # many recipes, with what builds one
    "toolchain.search": (
        *("toolchain.build", "toolchain.job", "toolchain.data", "toolchain.models", "toolchain.compress"),
        *("toolchain.backends", "toolchain.recipe", "toolchain.recipe_toml", "toolchain.recipe_files"),
        *("toolchain.paths", "toolchain.progress", "toolchain.installation", "toolchain.views.search"),
        *("deploy.runtime.device", "deploy.runtime.engines"),
    ),
    # what the keys of a recipe and of an inventory mean
    "toolchain.schemas": ("toolchain.recipe", "toolchain.compress", "deploy.servers.inventory"),
    # from a model and images to a recipe: tries and rehearses with what will build
    "toolchain.init": (
        *("toolchain.recipe", "toolchain.progress", "toolchain.data", "toolchain.models", "toolchain.accuracy"),
        *("toolchain.transform.lines", "toolchain.compress", "toolchain.schemas.json_schema"),
        "toolchain.build.pipeline",
    ),
    # what joins the making with the delivering
    "toolchain.workflows": (
        *("toolchain.build", "toolchain.job", "toolchain.data", "toolchain.models", "toolchain.compress"),
        *("toolchain.export", "toolchain.backends", "toolchain.recipe", "toolchain.paths", "toolchain.progress"),
        *("toolchain.accuracy", "toolchain.installation"),
        *("deploy.docker", "deploy.images", "deploy.containers", "deploy.ledger", "deploy.gate"),
        *("deploy.runtime.device", "deploy.runtime.engines"),
    ),
    # what `import toolchain as edge` offers
    "toolchain.api": (
        *(
            "toolchain.build",
            "toolchain.search",
            "toolchain.recipe",
            "toolchain.recipe_toml",
            "toolchain.progress",
            "toolchain.interrupts",
        ),
        *("toolchain.views", "toolchain.report", "toolchain.tracking"),
        *("deploy.docker", "deploy.images", "deploy.containers", "deploy.ledger", "deploy.gate"),
        *("deploy.runtime.protocol", "deploy.runtime.grpc.messages"),
    ),
    "toolchain.tracking": ("toolchain.installation",),
    "toolchain.views": (
        *("toolchain.tables", "toolchain.progress", "toolchain.search.record"),
        *("deploy.gate", "deploy.ledger", "deploy.servers", "deploy.ship"),
    ),
    "toolchain.report": (
        *("toolchain.accuracy", "toolchain.views", "toolchain.tables", "toolchain.paths", "toolchain.search.record"),
        *("deploy.gate", "deploy.ledger"),
    ),
    "toolchain.cli": ("toolchain", "deploy"),
    "toolchain.__main__": ("toolchain.cli",),
    # what is in the container
    "deploy.runtime.logs": (),
    "deploy.runtime.metrics": (),
    "deploy.runtime.decoding": (),
    "deploy.runtime.resampling": (),
    "deploy.runtime.preprocessing": ("deploy.runtime.decoding", "deploy.runtime.resampling"),
    "deploy.runtime.content": ("deploy.runtime.decoding", "deploy.runtime.scheduling"),
    "deploy.runtime.healthcheck": (),
    "deploy.runtime.device": ("deploy.runtime.metrics",),
    "deploy.runtime.engines": ("deploy.runtime.device",),
    "deploy.runtime.scheduling": ("deploy.runtime.engines", "deploy.runtime.device"),
    "deploy.runtime.protocol": ("deploy.runtime.scheduling", "deploy.runtime.metrics"),
    "deploy.runtime.inference": (
        *("deploy.runtime.protocol", "deploy.runtime.scheduling"),
        *("deploy.runtime.logs", "deploy.runtime.metrics", "deploy.runtime.preprocessing", "deploy.runtime.decoding"),
    ),
    "deploy.runtime.security": ("deploy.runtime.logs",),
    "deploy.runtime.http": (
        *("deploy.runtime.content", "deploy.runtime.inference", "deploy.runtime.protocol", "deploy.runtime.scheduling"),
        *("deploy.runtime.security", "deploy.runtime.device.cgroup", "deploy.runtime.logs", "deploy.runtime.metrics"),
    ),
    "deploy.runtime.grpc": (
        *("deploy.runtime.content", "deploy.runtime.inference", "deploy.runtime.protocol", "deploy.runtime.scheduling"),
        *("deploy.runtime.security", "deploy.runtime.logs", "deploy.runtime.metrics"),
        *("deploy.runtime.http.access", "deploy.runtime.http.limits", "deploy.runtime.http.messages"),
        *("deploy.runtime.http.ports", "deploy.runtime.http.tls_handshake"),
    ),
    "deploy.runtime.certification": (
        *("deploy.runtime.engines", "deploy.runtime.device", "deploy.runtime.scheduling", "deploy.runtime.protocol"),
        # names.py asks over HTTP
        *("deploy.runtime.http", "deploy.runtime.inference", "deploy.runtime.metrics", "deploy.runtime.logs"),
    ),
    "deploy.runtime.handover": ("deploy.runtime.logs",),
    "deploy.runtime": ("deploy.runtime",),
    # from the bundle to servers, and whether it may go
    "deploy.docker": ("toolchain.installation",),
    "deploy.certificates": (),
    "deploy.images": ("deploy.docker", "deploy.runtime.device.signing", "toolchain.paths"),
    "deploy.containers": (
        *("deploy.docker", "deploy.images"),
        *("deploy.runtime.http.access", "deploy.runtime.security"),
    ),
    "deploy.ledger": ("deploy.certificates", "toolchain.paths"),
    "deploy.gate": (
        *("deploy.docker", "deploy.images", "deploy.containers", "deploy.ledger"),
        *("toolchain.paths", "toolchain.progress", "deploy.runtime.device", "deploy.runtime.certification"),
    ),
    "deploy.servers": (
        *("deploy.docker", "deploy.images", "deploy.containers", "deploy.runtime.handover", "toolchain.paths"),
    ),
    "deploy.ship": ("deploy.servers", "deploy.docker", "deploy.images.signatures"),
    "deploy.kubernetes": ("deploy.containers.secrets", "deploy.runtime.http"),
    "toolchain": (),
    "deploy": (),
}
MODULES_A_FOLDER = 16
TORCH = ("torch", "torchvision", "torch_pruning")
# baselines measures eager PyTorch, inside a function: that is its purpose
KNOW_TORCH = (
    *("toolchain.compress", "toolchain.data", "toolchain.export", "toolchain.init", "toolchain.models"),
    "toolchain.tracking.tensorboard_run",
    "toolchain.workflows.baselines",
)
# What deploy/images/locks/runtime-*.in put into containers; an engine's library only in its own engine
IN_CONTAINERS = {
    *("google", "hpack", "numpy", "msgspec"),
    "httptools",
    "prometheus_client",
    *("PIL", "mlperf_loadgen", "nacl", "opentelemetry"),
}
ENGINES = {"openvino", "onnxruntime"}


def room_of(module: str) -> str:
    return next(room for room in RULES if below(module, room))


def allowed(one: Import) -> bool:
    """Its own room, what every room may import, or what the room's rule names."""
    if one.target in OURS or room_of(one.target) == room_of(one.module):
        return True
    everywhere = () if one.module in EVERYWHERE else EVERYWHERE
    return any(below(one.target, room) for room in (*everywhere, *RULES[room_of(one.module)]))


@pytest.mark.parametrize(
    ("module", "target", "may"),
    [
        ("toolchain.records.storage", "toolchain.errors", True),
        ("toolchain.records.storage", "toolchain.data", False),
        ("toolchain.errors", "toolchain.records", False),
        ("toolchain.backends.openvino", "toolchain.compress.step", False),
        ("toolchain.compress.steps.finetune", "toolchain.cli", False),
        ("toolchain.build.pipeline", "toolchain.job.job", True),
        ("toolchain.build.pipeline", "deploy.runtime.engines.openvino", True),
        ("toolchain.build.pipeline", "deploy.images.build", False),
        ("toolchain.build.pipeline", "toolchain.workflows.deploy", False),
        ("toolchain.build.pipeline", "toolchain.cli", False),
        ("toolchain.build.pipeline", "toolchain.api.build", False),
        ("toolchain.api.client", "deploy.runtime.http.app", False),
        ("toolchain.api.build", "toolchain.cli.console", False),
        ("toolchain.cli", "deploy.ledger.ledger", True),
        ("deploy.runtime.certification.bench", "deploy.gate.statistics", False),
        ("deploy.runtime.certification.bench", "toolchain.progress", False),
        ("deploy.images.build", "deploy.runtime.device.signing", True),
        ("deploy.images.build", "toolchain.export", False),
    ],
)
def test_the_rules_say_what_the_design_says(module: str, target: str, may: bool) -> None:
    assert allowed(Import(module, target, 1, True)) is may


def test_every_room_imports_only_what_it_may() -> None:
    wrong = [str(one) for one in imports() if one.target.split(".")[0] in OURS and not allowed(one)]
    assert not wrong, "\n".join(wrong)


def test_every_rule_is_about_something_that_exists() -> None:
    named = {room for row in RULES.values() for room in row} | set(RULES)
    assert not named - set(modules())


def test_a_folder_holds_at_most_16_modules() -> None:
    counts = Counter(path.parent for path in tracked() if path.suffix == ".py" and path.name != "__init__.py")
    crowded = [f"{folder}: {count}" for folder, count in counts.items() if count > MODULES_A_FOLDER]
    assert not crowded, "\n".join(crowded)


def test_torch_is_known_only_where_models_are_made() -> None:
    wrong = [
        str(one)
        for one in imports()
        if one.target.split(".")[0] in TORCH
        if not one.types and not any(below(one.module, room) for room in KNOW_TORCH)
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    "module",
    ["toolchain.cli", "toolchain.build.pipeline", "toolchain.workflows.doctor", "toolchain.workflows.baselines"],
)
def test_torch_is_not_imported_at_the_top_of(module: str) -> None:
    assert not [str(one) for one in imports() if one.module == module and one.top and one.target.split(".")[0] in TORCH]


def test_what_runs_in_the_container_imports_only_what_the_container_has() -> None:
    wrong = []
    for one in imports():
        first = one.target.split(".")[0]
        if not below(one.module, "deploy.runtime") and not below(one.module, "toolchain.records"):
            continue
        in_engine = below(one.module, "deploy.runtime.engines")
        known = first in OURS or first in sys.stdlib_module_names or first in IN_CONTAINERS
        if not known and not (first in ENGINES and in_engine):
            wrong.append(str(one))
    assert not wrong, "\n".join(wrong)


def test_the_containers_requirements_hold_nothing_that_makes() -> None:
    for path in (ROOT / "deploy/images/locks").glob("runtime-*.in"):
        names = {re.split(r"[\[<>=~! ]", line)[0] for line in path.read_text().splitlines() if line[:1].isalpha()}
        assert not names & {"torch", "torchvision", "onnx", "nncf", "fire", "docker", "sqlalchemy", "scipy"}, path.name


def test_there_are_no_import_cycles() -> None:
    """Imports inside functions and those for a type checker alone count too."""
    assert not cyclic_imports(), "\n".join(cyclic_imports())


SMALL = """
import sys
import toolchain.cli
from toolchain.cli.parser import run
assert run(toolchain.cli.COMMANDS, ["--help"]) == 0
heavy = {"torch", "numpy", "msgspec", "fire", "rich", "docker", "sqlalchemy", "openvino", "onnx"} & set(sys.modules)
print(sorted(heavy), file=sys.stderr)
"""


def test_help_loads_no_library() -> None:
    ran = subprocess.run([sys.executable, "-c", SMALL], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, "[]\n")

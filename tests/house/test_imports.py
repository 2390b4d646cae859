"""Who may import whom: the rooms of design.md, read from the sources."""

import re
import subprocess
import sys

import pytest

from tests.house.tree import OURS, ROOT, Import, below, imports, modules

# A room and what of ours it may import, beside itself. The first row that holds a module counts.
LEAVES = ("toolchain.errors", "toolchain.home", "toolchain.interruption", "toolchain.progress")
BASE = (*LEAVES, "toolchain.records", "toolchain.recipe")
MAKING = ("toolchain.backends", "toolchain.compress", "toolchain.data", "toolchain.export", "toolchain.models")
LEARNED = ("toolchain.compress.fake_quantize", "toolchain.compress.quantized_layers")
MEASURING = ("deploy.runtime.engines", "deploy.runtime.probe", "deploy.runtime.cgroup")
ALL = ("toolchain", "deploy")
RULES: dict[str, tuple[str, ...]] = {
    "toolchain.errors": (),
    "toolchain.home": (),
    "toolchain.interruption": (),
    "toolchain.progress": ("toolchain.interruption",),
    "toolchain.tables": (),
    "toolchain.commands": (),
    "toolchain.arguments": ("toolchain.commands", "toolchain.errors", "toolchain.interruption"),
    "toolchain.records": ("toolchain.errors",),
    "toolchain.recipe": ("toolchain.errors", "toolchain.records"),
    "toolchain.stages": (*LEAVES, "toolchain.records"),
    "toolchain.data": (*BASE, "deploy.runtime.pictures"),
    "toolchain.models": (*BASE, "toolchain.data"),
    "toolchain.compress": (*BASE, "toolchain.data", "toolchain.models"),
    # quantization-aware layers are exported as the integers that they learned
    "toolchain.export": (*BASE, "toolchain.data", "toolchain.models", *LEARNED),
    # the same builder here, for a GPU that is not here, and on the device
    "toolchain.backends": (*BASE, "deploy.runtime.engines.tensorrt_plan", "deploy.runtime.engines.cuda"),
    "toolchain.parity": BASE,
    # the verbs: they join what was made with what delivers it
    "toolchain.__main__": ALL,
    "toolchain.cli": ALL,
    "toolchain.certificateverbs": ALL,
    "toolchain.gateverbs": ALL,
    "toolchain.gatepage": ALL,
    "toolchain.ledgerverbs": ALL,
    "toolchain.releaseverbs": ALL,
    "toolchain.shipverbs": ALL,
    "toolchain.shippage": ALL,
    "toolchain.report": ALL,
    "toolchain.deployment": ALL,
    "toolchain.evaluation": ALL,
    "toolchain.baselines": ALL,
    "toolchain.printing": ALL,
    "toolchain.doctor": ALL,
    # the pipeline and its pages: all that makes, and the engines that will serve
    "toolchain": (*BASE, *MAKING, *MEASURING, "toolchain.parity", "toolchain.stages", "toolchain.tables"),
    # what is in the container
    "deploy.runtime": ("toolchain.errors", "toolchain.records"),
    "deploy": (*LEAVES, "toolchain.records", "deploy.runtime"),
}
TORCH = ("torch", "torchvision", "torch_pruning")
# baselines measures eager PyTorch, inside a function: that is its purpose
KNOW_TORCH = ("toolchain.compress", "toolchain.data", "toolchain.export", "toolchain.models", "toolchain.baselines")
# What requirements/runtime-*.in put into containers; an engine's library only in its own engine
IN_CONTAINERS = {"google", "grpc", "numpy", "msgspec", "httptools", "PIL", "mlperf_loadgen", "nacl", "opentelemetry"}
ENGINES = {"openvino", "onnxruntime"}


def room_of(module: str) -> str:
    return next(room for room in RULES if below(module, room))


def allowed(one: Import) -> bool:
    """Its own room, `toolchain` itself (the version), or what the room's rule names."""
    room = room_of(one.module)
    if one.target == "toolchain":
        return True
    # `toolchain` stands for its pages only: what lies in its rooms has rules of its own
    own = room_of(one.target) == room if room == "toolchain" else below(one.target, room)
    return own or any(below(one.target, other) for other in RULES[room])


@pytest.mark.parametrize(
    ("module", "target", "may"),
    [
        ("toolchain.records.files", "toolchain.errors", True),
        ("toolchain.records.files", "toolchain.data", False),
        ("toolchain.errors", "toolchain.records", False),
        ("toolchain.backends.openvino", "toolchain.compress.step", False),
        ("toolchain.compress.finetune", "toolchain.cli", False),
        ("toolchain.pipeline", "toolchain.making", True),
        ("toolchain.pipeline", "deploy.runtime.engines.openvino", True),
        ("toolchain.pipeline", "deploy.image", False),
        ("toolchain.pipeline", "toolchain.cli", False),
        ("toolchain.cli", "deploy.ledger", True),
        ("deploy.runtime.bench", "deploy.statistics", False),
        ("deploy.runtime.bench", "toolchain.progress", False),
        ("deploy.image", "deploy.runtime.probe", True),
        ("deploy.image", "toolchain.export", False),
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


def test_torch_is_known_only_where_models_are_made() -> None:
    wrong = [
        str(one)
        for one in imports()
        if one.target.split(".")[0] in TORCH and not any(below(one.module, room) for room in KNOW_TORCH)
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("module", ["toolchain.cli", "toolchain.pipeline", "toolchain.doctor", "toolchain.baselines"])
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
    for path in (ROOT / "requirements").glob("runtime-*.in"):
        names = {re.split(r"[\[<>=~! ]", line)[0] for line in path.read_text().splitlines() if line[:1].isalpha()}
        assert not names & {"torch", "torchvision", "onnx", "nncf", "fire", "docker", "sqlalchemy", "scipy"}, path.name


def test_there_are_no_import_cycles() -> None:
    edges: dict[str, set[str]] = {name: set() for name in modules()}
    for one in imports():
        if one.target in edges and one.target != one.module:
            edges[one.module].add(one.target)
    # what imports nothing more that is left cannot be in a cycle; what stays in the end is
    while free := [name for name, targets in edges.items() if not targets & set(edges)]:
        for name in free:
            del edges[name]
    cyclic = [f"{name} -> {', '.join(sorted(targets & set(edges)))}" for name, targets in edges.items()]
    assert not cyclic, "\n".join(cyclic)


SMALL = """
import sys
import toolchain.cli
from toolchain.arguments import run
assert run(toolchain.cli.COMMANDS, ["--help"]) == 0
heavy = {"torch", "numpy", "msgspec", "fire", "rich", "docker", "sqlalchemy", "openvino", "onnx"} & set(sys.modules)
print(sorted(heavy), file=sys.stderr)
"""


def test_help_loads_no_library() -> None:
    ran = subprocess.run([sys.executable, "-c", SMALL], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, "[]\n")

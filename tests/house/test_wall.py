"""The wall round the container: what the image takes, alone in a folder, imports with nothing that makes models."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.images.build import app_files
from tests.house.tree import ROOT, below, modules

BLOCKED = (
    "torch",
    "torchvision",
    "onnx",
    "nncf",
    "fire",
    "docker",
    "sqlalchemy",
    "psycopg",
    "scipy",
    "rich",
    "safetensors",
)

IMPORTER = """
import importlib, json, sys

folder, blocked, names = sys.argv[1], set(json.loads(sys.argv[2])), json.loads(sys.argv[3])

class Wall:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in blocked:
            raise ModuleNotFoundError(f"the container has no {name}", name=name)

sys.meta_path.insert(0, Wall)
sys.path.insert(0, folder)
for name in names:
    module = importlib.import_module(name)
    assert module.__file__.startswith(folder), f"{name} came from {module.__file__}, not from what the image takes"
leaked = sorted(blocked & {name.partition(".")[0] for name in sys.modules})
assert not leaked, f"imported all the same: {leaked}"
"""


def imported_behind_the_wall(folder: Path, names: list[str]) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-I", "-c", IMPORTER, str(folder), json.dumps(BLOCKED), json.dumps(names)]
    return subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the image takes, and nothing else of ours."""
    folder = tmp_path_factory.mktemp("app")
    for file in app_files():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / file, folder / file)
    return folder


def names_in(folder: Path) -> list[str]:
    """Every module there; `__main__` too, which must do nothing when it is only imported."""
    paths = sorted(path.relative_to(folder).with_suffix("").parts for path in folder.rglob("*.py"))
    return [".".join(parts[:-1] if parts[-1] == "__init__" else parts) for parts in paths]


def test_everything_in_the_image_imports_without_what_makes_models(app: Path) -> None:
    ran = imported_behind_the_wall(app, names_in(app))
    assert ran.returncode == 0, ran.stderr


def test_the_image_takes_the_whole_runtime_and_the_records(app: Path) -> None:
    wanted = {name for name in modules() if below(name, "deploy.runtime") or below(name, "toolchain.records")}
    assert wanted | {"toolchain.errors"} <= set(names_in(app))


def test_the_image_takes_nothing_else_of_ours(app: Path) -> None:
    rooms = ("deploy.runtime", "toolchain.records", "toolchain.errors")
    extra = [name for name in names_in(app) if not any(below(name, room) for room in rooms)]
    assert extra == ["deploy", "toolchain"]


@pytest.mark.parametrize("name", ["torch", "onnx.helper", "scipy"])
def test_the_wall_holds(name: str, app: Path) -> None:
    ran = imported_behind_the_wall(app, [name])
    assert f"the container has no {name.partition('.')[0]}" in ran.stderr


def test_the_dockerfile_copies_only_what_was_laid_out() -> None:
    """No COPY of the repository's own folders past image.py: the context holds app, bundle, making and wheels."""
    lines = [line.split() for line in (ROOT / "deploy/images/Dockerfile.cpu").read_text().splitlines()]
    copied = [word for words in lines if words[:1] == ["COPY"] and "--from" not in words[1] for word in words[1:-1]]
    assert set(copied) <= {"app", "bundle"}

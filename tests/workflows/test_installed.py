"""Wheel and source package hold everything, and an installed wheel does the main job in an empty folder."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest
from docker import DockerClient

from tests.house.tree import ROOT, tracked
from tests.journeys.conftest import lend_wheelhouse
from tests.journeys.own import changed, make_own
from tests.names import own_name

pytestmark = pytest.mark.slow
UV = Path(sys.executable).with_name("uv")
NAME = own_name("journey-installed")


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a source package and of the wheel that was built from it."""
    folder = tmp_path_factory.mktemp("packages")
    command = [UV, "build", "--quiet", "--offline", "--no-build-isolation", f"--python={sys.executable}"]
    subprocess.run([*command, f"--out-dir={folder}", ROOT], check=True)
    return folder


@pytest.fixture(scope="module")
def installed(packages: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment with the wheel in it. The libraries are this environment's own: a line in a .pth
    file adds their folder, and not what a .pth file in there adds, which is this checkout."""
    folder = tmp_path_factory.mktemp("installed") / "venv"
    subprocess.run([UV, "venv", "--quiet", f"--python={sys.executable}", folder], check=True)
    (wheel,) = packages.glob("*.whl")
    python = folder / "bin" / "python"
    command = [UV, "pip", "install", "--quiet", "--offline", "--no-deps", f"--python={python}", wheel]
    subprocess.run(command, check=True)
    (library,) = folder.glob("lib/python*/site-packages")
    (library / "libraries.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    return folder / "bin"


def type_into(folder: Path, *words: object) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "TOOLCHAIN_HOME")}
    command = [str(word) for word in words]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_the_wheel_holds_every_file_of_the_two_packages(packages: Path) -> None:
    (wheel,) = packages.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    expected = {str(path) for path in tracked() if path.parts[0] in ("toolchain", "deploy")}
    assert expected - names == set()
    assert [name for name in names if name.endswith(".dist-info/licenses/LICENSE")]


def test_the_source_package_holds_the_repository(packages: Path) -> None:
    (source,) = packages.glob("*.tar.gz")
    with tarfile.open(source) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    left_out = {path for path in map(str, tracked()) if path not in names}
    assert left_out == set()


def test_an_installed_toolchain_is_not_this_checkout(installed: Path, tmp_path: Path) -> None:
    program = "import toolchain, deploy; print(toolchain.__file__, deploy.__file__)"
    said = type_into(tmp_path, installed / "python", "-c", program).stdout
    assert str(ROOT) not in said
    assert said.count(str(installed.parent)) == 2
    assert type_into(tmp_path, installed / "toolchain", "--version").stdout.startswith("toolchain ")


def test_what_is_missing_is_mended_by_pip_and_not_by_make(installed: Path, tmp_path: Path) -> None:
    program = "from toolchain.installation import *; print(install_command('gpu')); print(engine_command())"
    gpu, engine = type_into(tmp_path, installed / "python", "-c", program).stdout.splitlines()
    assert gpu == f"{installed / 'python'} -m pip install 'edge-toolchain[gpu]'"
    assert engine.startswith("sudo bash ")
    assert Path(engine.split()[2]).is_file()


@pytest.mark.docker
def test_an_installed_wheel_does_the_main_job_in_an_empty_folder(
    installed: Path, tmp_path: Path, engine: DockerClient
) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    lend_wheelhouse(folder / ".toolchain")
    (tmp_path / "own").mkdir()
    own = make_own(tmp_path / "own") / "grey28.toml"
    recipe = changed(own, ('name = "grey28"', f'name = "{NAME}"'), to="installed.toml")
    tag = ""
    try:
        done = type_into(folder, installed / "toolchain", "deploy", recipe, "--port=0")
        assert done.returncode == 0, done.stderr
        last = json.loads(done.stdout.splitlines()[-1])
        tag = last["image"]
        assert last["certified"] is True
        assert engine.images.get(tag).labels.get("org.opencontainers.image.revision", "") == ""
        assert type_into(folder, installed / "toolchain", "stop", f"edge-{NAME}").returncode == 0
    finally:
        type_into(folder, installed / "toolchain", "stop", f"edge-{NAME}")
        if tag:
            engine.images.remove(tag, force=True)
        shutil.rmtree(folder / ".toolchain" / "cache", ignore_errors=True)

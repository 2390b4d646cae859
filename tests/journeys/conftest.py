"""The command line in this process, a home of its own for every test, and a user's own nets and pictures."""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from docker import DockerClient

from tests.journeys.own import make_own
from tests.journeys.said import Said
from toolchain.cli import COMMANDS
from toolchain.cli.parser import run
from toolchain.records.bundle import Bundle

Toolchain = Callable[..., Said]
ROUND_S = 0.25  # of a gate, a tenth of what a user's takes: an engine that pretends to work needs no longer
SHORT_GATE = f"""
import runpy, sys
from deploy.gate import rounds
rounds.ROUND_S = {ROUND_S}
sys.argv[0] = "toolchain"
runpy.run_module("toolchain", run_name="__main__")
"""
WHEELHOUSE = Path(__file__).parents[2] / ".toolchain" / "wheelhouse"


def lend_wheelhouse(home: Path) -> None:
    """The image's wheels are downloaded once for all homes."""
    WHEELHOUSE.mkdir(parents=True, exist_ok=True)
    home.mkdir(exist_ok=True)
    (home / "wheelhouse").symlink_to(WHEELHOUSE)


def shorten_gates(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """Short rounds for gates in this process, and for those that it starts as processes of their own."""
    python = folder / "python"
    python.write_text(
        f'#!/bin/sh\n[ "$1 $2 $3" = \'-m toolchain gate\' ] || exec {sys.executable} "$@"\n'
        f'shift 2\nexec {sys.executable} {folder}/short_gate.py "$@"\n'
    )
    python.chmod(0o755)
    (folder / "short_gate.py").write_text(SHORT_GATE)
    patch.setattr("sys.executable", str(python))
    patch.setattr("deploy.gate.rounds.ROUND_S", ROUND_S)


@contextmanager
def built(engine: DockerClient, folder: Path, bundles: Mapping[str, Bundle]) -> Iterator[None]:
    """Images of `bundles` by their tags, made in a home of their own below `folder`; removed in the end."""
    from deploy.images.build import build_image

    with pytest.MonkeyPatch.context() as patch:
        lend_wheelhouse(folder / "home")
        patch.setenv("TOOLCHAIN_HOME", str(folder / "home"))
        for tag, bundle in bundles.items():
            build_image(bundle, tag)
    yield
    for tag in bundles:
        engine.images.remove(tag, force=True)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TOOLCHAIN_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def toolchain(home: Path, capfd: pytest.CaptureFixture[str]) -> Toolchain:
    return typing_into(capfd)


def typing_into(capfd: pytest.CaptureFixture[str]) -> Toolchain:
    """`toolchain VERB …` as a user types it, without the seconds that a process of its own takes to import torch."""

    def typed(*words: object) -> Said:
        capfd.readouterr()
        try:
            code = run(COMMANDS, [str(word) for word in words])
        except SystemExit as end:  # how a verb says that what it did has a bad result
            code = int(end.code or 0)
        return Said(code, *capfd.readouterr())

    return typed


@pytest.fixture(scope="session")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a user: examples/own_model, copied, with its pictures made."""
    return make_own(tmp_path_factory.mktemp("own"))

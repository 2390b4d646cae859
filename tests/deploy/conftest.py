"""A null bundle and its image, made once for all workers."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest
from docker import DockerClient

from deploy.images.build import BuiltImage, build_image
from tests.bundles import null_bundle
from tests.deploy.ledger.ledgers import place, postgresql
from tests.names import shared_name
from tests.once import made_once, remove_at_the_end
from toolchain.records.bundle import Bundle, open_bundle

__all__ = ["place", "postgresql"]  # fixtures, which pytest finds here


@pytest.fixture
def unnamed(engine: DockerClient, request: pytest.FixtureRequest) -> Iterator[None]:
    """No container whose name begins with the test file's NAME is left."""
    yield
    for container in engine.containers.list(all=True, ignore_removed=True):
        if str(container.name).startswith(request.module.NAME):
            container.remove(force=True)


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = made_once(tmp_path_factory, "null", lambda below: str(null_bundle(below / "null.bundle").folder))
    return open_bundle(Path(folder))


@pytest.fixture(scope="session")
def image(engine: DockerClient, bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> BuiltImage:
    """The image of a null bundle, really built."""

    def built(_: Path) -> str:
        tag = shared_name("edge-test:session")
        remove_at_the_end(tmp_path_factory, tag)
        return json.dumps(asdict(build_image(bundle, tag)))

    return BuiltImage(**json.loads(made_once(tmp_path_factory, "image", built)))

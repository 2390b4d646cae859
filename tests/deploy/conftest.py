"""A real engine, and the image of a null bundle built on it, once for all tests of delivering."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from docker import DockerClient

from deploy.docker.engine import connect
from deploy.images.build import Image, build_image
from tests.bundles import null_bundle
from tests.deploy.ledger.ledgers import place, postgresql
from toolchain.records.bundle import Bundle

__all__ = ["place", "postgresql"]  # fixtures, which pytest finds here


@pytest.fixture(scope="session")
def engine() -> Iterator[DockerClient]:
    with closing(connect()) as client:
        yield client


@pytest.fixture
def unnamed(engine: DockerClient, request: pytest.FixtureRequest) -> Iterator[None]:
    """No container whose name begins with the test file's NAME is left."""
    yield
    for container in engine.containers.list(all=True):
        if str(container.name).startswith(request.module.NAME):
            container.remove(force=True)


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder: Path = tmp_path_factory.mktemp("image")
    return null_bundle(folder / "null.bundle")


@pytest.fixture(scope="session")
def image(engine: DockerClient, bundle: Bundle) -> Iterator[Image]:
    """The image of a null bundle, really built."""
    made = build_image(bundle, "edge-test:session")
    yield made
    engine.images.remove(made.tag, force=True)

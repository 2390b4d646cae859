"""Quick servers for all tests that only ask: one in plain HTTP, one with TLS."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bundles import null_bundle
from tests.deploy.runtime.security.authority import Authority, Issued
from tests.deploy.runtime.security.secured import closed
from tests.deploy.runtime.server import Running, serving


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    bundle = null_bundle(tmp_path_factory.mktemp("quick") / "null.bundle")
    with serving(bundle.folder, "--max-body", 1 << 20, "--sender-timeout", 1, "--max-batch", 32) as running:
        yield running
        assert running.process.poll() is None, "the server died during the tests"
        assert not [line for line in running.lines if line["event"] in ("unexpected", "plain", "fault")]


@pytest.fixture(scope="session")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ours"))


@pytest.fixture(scope="session")
def server_cert(ours: Authority) -> Issued:
    issued = ours.issue("server")
    issued.key.chmod(0o600)
    return issued


@pytest.fixture(scope="session")
def null_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return null_bundle(tmp_path_factory.mktemp("tls") / "null.bundle").folder


@pytest.fixture(scope="session")
def secured(null_folder: Path, ours: Authority, server_cert: Issued) -> Iterator[Running]:
    """One server for all tests that only ask."""
    with closed(null_folder, server_cert, "--sender-timeout", 1, "--connections", 24) as server:
        yield server

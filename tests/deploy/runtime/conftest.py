"""One quick server for all tests that only ask."""

from collections.abc import Iterator

import pytest

from tests.bundles import null_bundle
from tests.deploy.runtime.server import Running, serving


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    bundle = null_bundle(tmp_path_factory.mktemp("quick") / "null.bundle")
    with serving(bundle.folder, "--max-body", 1 << 20, "--sender-timeout", 1, "--max-batch", 32) as running:
        yield running
        assert running.process.poll() is None, "the server died during the tests"
        assert not [line for line in running.lines if line["event"] in ("unexpected", "plain", "fault")]

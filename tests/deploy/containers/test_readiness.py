from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from deploy.containers.credentials import Credentials
from deploy.containers.readiness import check_ready, wait_until_ready
from tests.bundles import null_bundle
from tests.deploy.runtime.security.authority import Authority
from tests.deploy.runtime.server import serving
from tests.httpserver import Silent, served
from toolchain.errors import DockerError

STARTING = b'{"ready":false,"error":"the engine is loading"}'
FAILED = b'{"ready":false,"error":"check \'golden top-1\' failed: 50% agree, expected 100%"}'


@contextmanager
def server(*replies: tuple[int, bytes]) -> Iterator[str]:
    """Gives `replies` in turn, then the last one for ever."""
    left = list(replies)

    class Handler(Silent):
        def do_GET(self) -> None:
            status, body = left.pop(0) if len(left) > 1 else left[0]
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

    with served(Handler) as address:
        yield address


def test_the_wait_ends_when_the_server_is_ready() -> None:
    with server((503, STARTING), (503, STARTING), (200, b"")) as url:
        wait_until_ready(url, 5, lambda: None)


def test_a_server_that_never_gets_ready_is_an_error_that_quotes_it() -> None:
    with (
        server((503, STARTING)) as url,
        pytest.raises(DockerError, match=r"not ready within 0 s; its last answer: .*is loading"),
    ):
        wait_until_ready(url, 0.1, lambda: None)


def test_a_failed_golden_sample_ends_the_wait_at_once() -> None:
    with server((503, FAILED)) as url, pytest.raises(DockerError, match=r"refuses to serve here: .*golden top-1"):
        wait_until_ready(url, 60, lambda: None)


def test_only_a_server_with_the_expected_certificate_counts_as_ready(tmp_path: Path) -> None:
    ours = Authority(tmp_path)
    here, other = ours.issue("here"), ours.issue("other")
    with serving(null_bundle(tmp_path / "null.bundle").folder, "--tls-cert", here.cert, "--tls-key", here.key) as it:
        url = f"https://127.0.0.1:{it.port}"
        wait_until_ready(url, 30, lambda: None, Credentials(server_cert=here.cert))
        with pytest.raises(DockerError, match=rf"^{url}: its certificate is not trusted here \("):
            wait_until_ready(url, 60, lambda: None, Credentials(server_cert=other.cert))


def test_an_unreachable_server_is_not_ready() -> None:
    is_ready, message = check_ready("http://127.0.0.1:9")
    assert not is_ready
    assert message.startswith("http://127.0.0.1:9: no answer ([Errno 111] Connection refused)")


def test_the_wait_ends_when_the_container_has_died() -> None:
    def died() -> None:
        raise DockerError("container 'x' died (exit 1): no such bundle")

    with pytest.raises(DockerError, match="died"):
        wait_until_ready("http://127.0.0.1:9", 60, died)

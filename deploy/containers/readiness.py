"""Is the server at this address ready? The host's side of a cold start. Knows nothing of Docker or of models."""

import time
from collections.abc import Callable

from deploy.containers.client import NONE, UNTRUSTED, asked, opened
from deploy.containers.credentials import Credentials
from toolchain.errors import DeviceError, DockerError

POLL_S = 0.02


def ready(url: str, shown: Credentials = NONE) -> tuple[bool, str]:
    """(whether it is ready, else what it said or why it did not answer)."""
    try:
        with opened(url, 10, shown) as connection:
            status, body = asked(connection, "/v2/health/ready")
    except DeviceError as error:
        return False, str(error)
    return status == 200, " ".join(body.decode(errors="replace").split())[:300]


def wait_until_ready(url: str, timeout_s: float, check_alive: Callable[[], None], shown: Credentials = NONE) -> None:
    """Poll until ready; `check_alive` raises when there is nobody left to wait for. DockerError after `timeout_s`."""
    deadline, look = time.monotonic() + timeout_s, 0.0
    while True:
        is_ready, said = ready(url, shown)
        if is_ready:
            return
        if "failed: " in said:  # a golden sample or a need of the device: it will never be ready
            raise DockerError(f"{url} refuses to serve here: {said}")
        if UNTRUSTED in said:  # nor will its certificate be another
            raise DockerError(said)
        now = time.monotonic()
        if now > deadline:
            raise DockerError(f"{url} was not ready within {timeout_s:.0f} s; it said: {said}")
        if now > look:
            check_alive()
            look = now + 0.25
        time.sleep(POLL_S)

"""Waits until the server at an address is ready: the host's side of a cold start."""

import time
from collections.abc import Callable

from deploy.containers.client import NO_CREDENTIALS, UNTRUSTED, get, open_connection
from deploy.containers.credentials import Credentials
from toolchain.errors import DeviceError, DockerError

POLL_S = 0.02


def check_ready(url: str, credentials: Credentials = NO_CREDENTIALS) -> tuple[bool, str]:
    """(ready or not, the server's message or why it did not answer)."""
    try:
        with open_connection(url, 10, credentials) as connection:
            status, body = get(connection, "/v2/health/ready")
    except DeviceError as error:
        return False, str(error)
    return status == 200, " ".join(body.decode(errors="replace").split())[:300]


def wait_until_ready(
    url: str, timeout_s: float, check_alive: Callable[[], None], credentials: Credentials = NO_CREDENTIALS
) -> None:
    """Poll until the server is ready; check_alive() raises when it has died. DockerError after `timeout_s`."""
    deadline, next_check = time.monotonic() + timeout_s, 0.0
    while True:
        is_ready, message = check_ready(url, credentials)
        if is_ready:
            return
        if "failed: " in message:  # a failed golden sample or device requirement never becomes ready
            raise DockerError(f"{url} refuses to serve here: {message}")
        if UNTRUSTED in message:  # the certificate will not change either
            raise DockerError(message)
        now = time.monotonic()
        if now > deadline:
            raise DockerError(f"{url} was not ready within {timeout_s:.0f} s; its last answer: {message}")
        if now > next_check:
            check_alive()
            next_check = now + 0.25
        time.sleep(POLL_S)

"""Is the server at this address ready, and does it answer a picture? The host's side of a cold start.

Open Inference Protocol v2 over HTTP with the binary tensor extension. Knows nothing of Docker.
"""

import http.client
import json
import time
from collections.abc import Callable
from urllib.parse import urlsplit

from toolchain.errors import DockerError
from toolchain.records.manifest import Manifest
from toolchain.records.tensors import Array

POLL_S = 0.02
DATATYPES = {"float16": "FP16", "float32": "FP32", "float64": "FP64", "bool": "BOOL"}


def ready(url: str) -> tuple[bool, str]:
    """(whether it is ready, else what it said or why it did not answer)."""
    try:
        status, body = _asked(url, "GET", "/v2/health/ready")
    except (OSError, http.client.HTTPException) as error:
        return False, f"no answer yet ({type(error).__name__})"
    return status == 200, " ".join(body.decode(errors="replace").split())[:300]


def wait_until_ready(url: str, timeout_s: float, check_alive: Callable[[], None]) -> None:
    """Poll until ready; `check_alive` raises when there is nobody left to wait for. DockerError after `timeout_s`."""
    deadline, look = time.monotonic() + timeout_s, 0.0
    while True:
        is_ready, said = ready(url)
        if is_ready:
            return
        if "failed: " in said:  # a golden sample or a need of the device: it will never be ready
            raise DockerError(f"{url} refuses to serve here: {said}")
        now = time.monotonic()
        if now > deadline:
            raise DockerError(f"{url} was not ready within {timeout_s:.0f} s; it said: {said}")
        if now > look:
            check_alive()
            look = now + 0.25
        time.sleep(POLL_S)


def first_answer(url: str, manifest: Manifest, picture: Array) -> None:
    """Send one picture ([1, ...], as the manifest's input) and read the answer; DockerError when it is refused."""
    spec = manifest.inputs[0]
    content = picture.tobytes()
    tensor = {
        "name": spec.name,
        "shape": list(picture.shape),
        "datatype": DATATYPES.get(spec.dtype, spec.dtype.upper()),
        "parameters": {"binary_data_size": len(content)},
    }
    head = json.dumps({"inputs": [tensor], "outputs": [{"name": manifest.outputs[0].name}]}).encode()
    headers = {"Inference-Header-Content-Length": str(len(head)), "Content-Type": "application/octet-stream"}
    try:
        status, body = _asked(url, "POST", f"/v2/models/{manifest.name}/infer", head + content, headers)
    except (OSError, http.client.HTTPException) as error:
        raise DockerError(f"{url} was ready, then did not answer a picture: {error!r}") from error
    if status != 200:
        raise DockerError(f"{url} was ready, then refused a sample picture: HTTP {status}: {body.decode()[:300]}")


def _asked(
    url: str, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=10)
    try:
        connection.request(method, path, body, headers or {})
        reply = connection.getresponse()
        return reply.status, reply.read()
    finally:
        connection.close()

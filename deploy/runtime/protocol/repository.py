"""The model repository extension of the Open Inference Protocol: an index of one model, which stays for as long as the
server runs. The same records answer HTTP and gRPC. Pure functions; no HTTP.
"""

import re

import msgspec

from toolchain.errors import RequestError
from toolchain.records.manifest import Manifest

PREFIX = "/v2/repository"
INDEX = f"{PREFIX}/index"
CONTROL = re.compile(rf"{PREFIX}/models/[^/]+/(load|unload)")
# Triton's other calls that change a running server: here a container's variables do
SETTINGS = re.compile(r"/v2/(logging|(models/[^/]+/)?trace/setting)")
SETTINGS_TEXT = "logs and traces are set where the server starts: LOG_LEVEL, OTEL_EXPORTER_OTLP_ENDPOINT"


class IndexedModel(msgspec.Struct, frozen=True):
    """state: READY or UNAVAILABLE; reason: why it is not ready, else empty."""

    name: str
    version: str
    state: str
    reason: str


class IndexRequest(msgspec.Struct):
    """ready: name the model only where it is ready."""

    ready: bool = False


def is_known(path: str) -> bool:
    """Whether `path` is one of the extension's."""
    return path == INDEX or CONTROL.fullmatch(path) is not None


def parse_index_request(body: memoryview) -> IndexRequest:
    """Clients may send no body; RequestError for one that does not fit."""
    try:
        return msgspec.json.decode(body, type=IndexRequest) if body else IndexRequest()
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise RequestError(f"expected a JSON object with `ready`, or no body: {error}") from error


def model_index(manifest: Manifest, why_not_ready: str, ready_only: bool) -> tuple[IndexedModel, ...]:
    """why_not_ready: empty where it is."""
    if why_not_ready and ready_only:
        return ()
    return (IndexedModel(manifest.name, manifest.release, "UNAVAILABLE" if why_not_ready else "READY", why_not_ready),)


def fixed_model_text(manifest: Manifest) -> str:
    """The error of a request to load or unload a model."""
    return (
        f"this server has '{manifest.name}' for as long as it runs and neither loads nor unloads models; "
        "for another model run its image: toolchain run IMAGE"
    )

"""The Open Inference Protocol's metadata of the server and its model: manifest -> records. No HTTP.

The same records answer HTTP (as JSON) and gRPC, and give the OpenAPI document its schemas.
"""

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec

from deploy.runtime.protocol.tensors import DATATYPES
from deploy.runtime.scheduling.service import SchedulingOptions
from toolchain import __version__
from toolchain.records.bundle import Bundle
from toolchain.records.manifest import Manifest
from toolchain.records.output import OutputKind
from toolchain.records.tensors import TensorSpec

EXTENSIONS = (
    *("binary_tensor_data", "classification", "model_configuration", "model_repository", "statistics"),
    "system_shared_memory",
)


NonNegativeInt = Annotated[int, msgspec.Meta(ge=0)]


class Liveness(msgspec.Struct, frozen=True):
    """Whether the process answers."""

    live: bool


class Readiness(msgspec.Struct, frozen=True):
    """name: of the model; error: why it is not ready, absent where it is."""

    name: str
    ready: bool
    error: str | msgspec.UnsetType = msgspec.UNSET


class ServerMetadata(msgspec.Struct, frozen=True):
    """extensions: of the Open Inference Protocol, by their names there."""

    name: str
    version: str
    extensions: tuple[str, ...]


class TensorMetadata(msgspec.Struct, frozen=True):
    """An input or output of the model; shape: -1 for an axis of any length."""

    name: str
    datatype: str
    shape: tuple[int, ...]


class ModelMetadata(msgspec.Struct, frozen=True):
    """platform: backend and precision."""

    name: str
    versions: tuple[str, ...]
    platform: str
    inputs: tuple[TensorMetadata, ...]
    outputs: tuple[TensorMetadata, ...]


class ConfigTensor(msgspec.Struct, frozen=True):
    """dims: without the batch where max_batch_size is set; -1 for an axis of any length."""

    name: str
    data_type: str
    dims: tuple[int, ...]


class DynamicBatching(msgspec.Struct, frozen=True):
    """How long a request may wait for others that join its batch."""

    max_queue_delay_microseconds: NonNegativeInt


class ModelConfig(msgspec.Struct, frozen=True):
    """Triton's model configuration. max_batch_size: images in one request; 0: the model's inputs have no batch axis."""

    name: str
    platform: str
    backend: str
    version_policy: dict[str, dict[str, int]]
    max_batch_size: NonNegativeInt
    dynamic_batching: DynamicBatching
    input: tuple[ConfigTensor, ...]
    output: tuple[ConfigTensor, ...]


class ServerSummary(msgspec.Struct, frozen=True):
    """The reply at `/`, for a person with curl and for the web page. certificate: its summary; labels: how many;
    output: what the outputs say; try: a curl command that sends an image."""

    model: str
    release: str
    bundle: str
    precision: str
    backend: str
    engine: str
    state: str
    reason: str
    certificate: dict[str, Any]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    labels: NonNegativeInt
    output: OutputKind
    example: str = msgspec.field(name="try")
    endpoints: tuple[str, ...]


def server_metadata() -> ServerMetadata:
    return ServerMetadata("edge-toolchain", __version__, EXTENSIONS)


def model_metadata(manifest: Manifest) -> ModelMetadata:
    return ModelMetadata(
        name=manifest.name,
        versions=(manifest.release,),
        platform=f"{manifest.serving.backend}_{manifest.chosen}",
        inputs=tuple(_tensor_metadata(spec) for spec in manifest.inputs),
        outputs=tuple(_tensor_metadata(spec) for spec in manifest.outputs),
    )


def _tensor_metadata(spec: TensorSpec) -> TensorMetadata:
    return TensorMetadata(spec.name, DATATYPES[spec.dtype], _open_axes(spec.shape))


def _config_tensor(spec: TensorSpec, batched: bool) -> ConfigTensor:
    axes = spec.shape[1:] if batched else spec.shape
    return ConfigTensor(spec.name, f"TYPE_{DATATYPES[spec.dtype]}", _open_axes(axes))


def _open_axes(shape: Sequence[int | None]) -> tuple[int, ...]:
    return tuple(-1 if axis is None else axis for axis in shape)


def model_config(manifest: Manifest, terms: SchedulingOptions) -> ModelConfig:
    """Triton's model configuration, as perf_analyzer requests it."""
    batched = all(spec.shape and spec.shape[0] is None for spec in manifest.inputs)
    return ModelConfig(
        name=manifest.name,
        platform=f"{manifest.serving.backend}_{manifest.chosen}",
        backend=manifest.serving.backend,
        version_policy={"latest": {"num_versions": 1}},
        max_batch_size=terms.max_batch if batched else 0,
        dynamic_batching=DynamicBatching(round(terms.max_delay_s * 1e6)),
        input=tuple(_config_tensor(spec, batched) for spec in manifest.inputs),
        output=tuple(_config_tensor(spec, batched) for spec in manifest.outputs),
    )


def unknown_model_text(manifest: Manifest, name: str, version: str = "") -> str:
    """The error of a request for another model or version than that of `manifest`; "" where they match."""
    if name != manifest.name:
        return f"no model '{name[:60]}' here; this server has '{manifest.name}'"
    if version not in ("", manifest.release):
        return f"no version '{version[:60]}' of '{manifest.name}' here; it is '{manifest.release}'"
    return ""


def server_summary(bundle: Bundle, engine: str, state: str, reason: str, certificate: dict[str, Any]) -> ServerSummary:
    """certificate: its summary."""
    manifest, base = bundle.manifest, f"/v2/models/{bundle.manifest.name}"
    return ServerSummary(
        model=manifest.name,
        release=manifest.release,
        bundle=bundle.digest,
        precision=manifest.chosen,
        backend=manifest.serving.backend,
        engine=engine,
        state=state,
        reason=reason,
        certificate=certificate,
        inputs=tuple(f"{spec.name}: {spec}" for spec in manifest.inputs),
        outputs=tuple(f"{spec.name}: {spec}" for spec in manifest.outputs),
        labels=len(manifest.labels),
        output=manifest.output,
        example=f"curl -s -F file=@image.jpg http://HOST:PORT{base}/infer",
        endpoints=(
            "/v2",
            "/v2/openapi.json",
            "/v2/health/live",
            "/v2/health/ready",
            base,
            f"{base}/config",
            f"{base}/infer",
            f"{base}/stats",
            "/certificate",
            "/metrics",
        ),
    )

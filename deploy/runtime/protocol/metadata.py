"""The Open Inference Protocol's metadata of the server and its model: manifest -> records. No HTTP."""

from typing import Any

from deploy.runtime.protocol.tensors import DATATYPES
from deploy.runtime.scheduling.service import SchedulingOptions
from toolchain import __version__
from toolchain.records.bundle import Bundle
from toolchain.records.manifest import Manifest
from toolchain.records.tensors import TensorSpec

EXTENSIONS = ("binary_tensor_data", "classification", "model_configuration", "statistics", "system_shared_memory")


def server_metadata() -> dict[str, Any]:
    return {"name": "edge-toolchain", "version": __version__, "extensions": EXTENSIONS}


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    shape = [-1 if axis is None else axis for axis in spec.shape]
    return {"name": spec.name, "datatype": DATATYPES[spec.dtype], "shape": shape}


def model_metadata(manifest: Manifest) -> dict[str, Any]:
    return {
        "name": manifest.name,
        "versions": [manifest.release],
        "platform": f"{manifest.serving.backend}_{manifest.chosen}",
        "inputs": [_tensor(spec) for spec in manifest.inputs],
        "outputs": [_tensor(spec) for spec in manifest.outputs],
    }


def _config_tensor(spec: TensorSpec, batched: bool) -> dict[str, Any]:
    axes = spec.shape[1:] if batched else spec.shape
    dims = [-1 if axis is None else axis for axis in axes]
    return {"name": spec.name, "data_type": f"TYPE_{DATATYPES[spec.dtype]}", "dims": dims}


def model_config(manifest: Manifest, terms: SchedulingOptions) -> dict[str, Any]:
    """Triton's model configuration, as perf_analyzer requests it: where max_batch_size is set, `dims` leave out the
    batch."""
    batched = all(spec.shape and spec.shape[0] is None for spec in manifest.inputs)
    return {
        "name": manifest.name,
        "platform": f"{manifest.serving.backend}_{manifest.chosen}",
        "backend": manifest.serving.backend,
        "version_policy": {"latest": {"num_versions": 1}},
        "max_batch_size": terms.max_batch if batched else 0,
        "dynamic_batching": {"max_queue_delay_microseconds": round(terms.max_delay_s * 1e6)},
        "input": [_config_tensor(spec, batched) for spec in manifest.inputs],
        "output": [_config_tensor(spec, batched) for spec in manifest.outputs],
    }


def unknown_model_text(manifest: Manifest, name: str, version: str = "") -> str:
    """The error of a request for another model or version than that of `manifest`; "" where they match."""
    if name != manifest.name:
        return f"no model '{name[:60]}' here; this server has '{manifest.name}'"
    if version not in ("", manifest.release):
        return f"no version '{version[:60]}' of '{manifest.name}' here; it is '{manifest.release}'"
    return ""


def server_summary(bundle: Bundle, now: dict[str, Any]) -> dict[str, Any]:
    """What stands at `/` for a person with curl, and for the page; `now`: what changes while the server lives."""
    manifest, base = bundle.manifest, f"/v2/models/{bundle.manifest.name}"
    return {
        "model": manifest.name,
        "release": manifest.release,
        "bundle": bundle.digest,
        "precision": manifest.chosen,
        "backend": manifest.serving.backend,
        **now,
        "inputs": [f"{spec.name}: {spec}" for spec in manifest.inputs],
        "outputs": [f"{spec.name}: {spec}" for spec in manifest.outputs],
        "labels": len(manifest.labels),
        "try": f"curl -s --data-binary @picture.jpg -H 'Content-Type: image/jpeg' http://HOST:PORT{base}/infer",
        "endpoints": [
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
        ],
    }

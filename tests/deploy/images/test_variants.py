from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from deploy.containers import gpus
from deploy.containers.gpus import gpu_requests
from deploy.docker.labels import TARGET
from deploy.images.variants import CLASSIC, CPU, GPU, bundle_variant, target_variant
from tests.bundles import null_bundle
from toolchain.records.manifest import Candidate


def test_each_target_has_an_image_that_exists() -> None:
    assert target_variant("tensorrt") is GPU
    assert target_variant("openvino") is target_variant("onnxruntime") is target_variant("null") is CPU
    for kind in (CPU, GPU, CLASSIC):
        assert all(path.is_file() for path in (kind.dockerfile, kind.lock, *kind.sources))


def test_a_bundle_of_graphs_needs_the_image_with_the_builder(tmp_path: Path) -> None:
    def of(target: str, file: str) -> object:
        candidates = (Candidate("fp32", target, (file,), 1),)
        manifest = null_bundle(tmp_path / f"{target}-{file}").manifest
        return bundle_variant(msgspec.structs.replace(manifest, target=target, candidates=candidates))

    assert of("tensorrt", "model-fp32.onnx") is CLASSIC
    assert of("tensorrt", "model-fp32.sm86.plan") is GPU
    assert of("onnxruntime", "model.onnx") is CPU


def asked(target: str, runtimes: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What a container of an image for `target` is given on an engine that has these runtimes."""
    monkeypatch.setattr(gpus, "find_image", lambda _client, _image: SimpleNamespace(labels={TARGET: target}))
    client: Any = SimpleNamespace(info=lambda: {"Runtimes": runtimes})
    return list(gpu_requests(client, "image"))


def test_gpus_are_for_images_that_want_them_where_the_engine_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    (request,) = asked("tensorrt", {"nvidia": {}, "runc": {}}, monkeypatch)
    assert request["Capabilities"] == [["gpu"]]
    assert request["Count"] == -1
    assert asked("tensorrt", {"runc": {}}, monkeypatch) == []
    assert asked("openvino", {"nvidia": {}, "runc": {}}, monkeypatch) == []

"""Kubernetes' own schemas, as the kubernetes-validate package brings them, judge what they know."""

from pathlib import Path
from typing import Any

import kubernetes_validate
import msgspec
import pytest
import yaml

from deploy.ship.manifests import files, node_selector, write
from tests.bundles import null_bundle
from toolchain.errors import UsageError
from toolchain.records.manifest import Manifest, Needs

IMAGE = "registry.example.com/edge/net@sha256:" + "0" * 64
KUBERNETES = "1.33"
OF_OTHERS = {"Kustomization", "PodMonitor", "InferenceService"}  # no schema of Kubernetes' own


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    return null_bundle(tmp_path / "net.bundle", release="1.5.0+a", name="My_Net").manifest


def objects(manifest: Manifest) -> dict[str, Any]:
    found = (yaml.safe_load(text) for text in files(manifest, IMAGE).values())
    return {one["kind"]: one for one in found}


def test_kubernetes_own_schemas_take_every_object(manifest: Manifest) -> None:
    judged = 0
    for kind, one in objects(manifest).items():
        if kind not in OF_OTHERS:
            kubernetes_validate.validate(one, KUBERNETES, strict=True)
            judged += 1
    assert judged == 5


def test_names_are_what_dns_takes_and_selectors_find_the_pods(manifest: Manifest) -> None:
    found = objects(manifest)
    assert {one["metadata"]["name"] for kind, one in found.items() if kind != "Kustomization"} == {"edge-my-net"}
    labels = found["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert labels["app.kubernetes.io/version"] == "1.5.0-a"
    for selector in (
        found["Service"]["spec"]["selector"],
        found["Deployment"]["spec"]["selector"]["matchLabels"],
        found["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        found["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
        found["PodMonitor"]["spec"]["selector"]["matchLabels"],
    ):
        assert selector.items() <= labels.items()
    assert sorted(found["Kustomization"]["resources"]) == [
        "deployment.yaml", "horizontalpodautoscaler.yaml", "networkpolicy.yaml", "poddisruptionbudget.yaml",
        "podmonitor.yaml", "service.yaml",
    ]  # fmt: skip


def test_a_gpu_release_asks_for_one_and_for_nodes_that_have_the_right_kind(manifest: Manifest) -> None:
    needs = Needs(gpu=True, compute_capabilities=(86,))
    gpu = msgspec.structs.replace(manifest, needs=needs)
    container = objects(gpu)["Deployment"]["spec"]["template"]["spec"]["containers"][0]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 1
    selector = node_selector(gpu)
    assert (selector["nvidia.com/gpu.compute.major"], selector["nvidia.com/gpu.compute.minor"]) == ("8", "6")
    cpu = msgspec.structs.replace(manifest, needs=Needs(cpu_isa=("avx2", "avx512_vnni")))
    assert node_selector(cpu)["feature.node.kubernetes.io/cpu-cpuid.AVX512VNNI"] == "true"


def test_the_same_release_gives_the_same_bytes_without_anchors(manifest: Manifest, tmp_path: Path) -> None:
    written = write(manifest, IMAGE, tmp_path / "one")
    write(manifest, IMAGE, tmp_path / "two")
    for place in written:
        other = tmp_path / "two" / place.relative_to(tmp_path / "one")
        assert place.read_bytes() == other.read_bytes()
        assert "&id" not in place.read_text()


@pytest.mark.parametrize("image", ["edge-net", "-x:1", "Registry/Name:1", "a b:1", "net@sha256:12"])
def test_an_image_that_no_cluster_can_pull_is_refused(manifest: Manifest, image: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="expected what a cluster can pull"):
        write(manifest, image, tmp_path / "out")
    assert not (tmp_path / "out").exists()

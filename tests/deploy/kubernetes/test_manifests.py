"""Kubernetes' own schemas, as the kubernetes-validate package brings them, judge what they know."""

from pathlib import Path
from typing import Any

import kubernetes_validate
import msgspec
import pytest
import yaml

from deploy.kubernetes.manifests import node_selector, render_manifests, write_manifests
from deploy.kubernetes.secrets import OPEN_ACCESS, ClusterAccess
from tests.bundles import null_bundle
from toolchain.errors import UsageError
from toolchain.records.manifest import Manifest, Needs

IMAGE = "registry.example.com/edge/net@sha256:" + "0" * 64
KUBERNETES = "1.33"
CLOSED = ClusterAccess(tls="my-net-tls", client_ca="clients", tokens="clients", admin_port=9090)
OF_OTHERS = {"Kustomization", "PodMonitor", "InferenceService"}  # no schema of Kubernetes' own


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    return null_bundle(tmp_path / "net.bundle", release="1.5.0+a", name="My_Net").manifest


def objects(manifest: Manifest, access: ClusterAccess = OPEN_ACCESS) -> dict[str, Any]:
    manifests = (yaml.safe_load(text) for text in render_manifests(manifest, IMAGE, access).values())
    return {one["kind"]: one for one in manifests}


def containers(manifests: dict[str, Any]) -> list[dict[str, Any]]:
    """Of the Deployment and of KServe's service."""
    pods = (manifests["Deployment"]["spec"]["template"]["spec"], manifests["InferenceService"]["spec"]["predictor"])
    return [pod["containers"][0] for pod in pods]


@pytest.mark.parametrize(
    "access",
    [OPEN_ACCESS, ClusterAccess(tokens="t"), ClusterAccess(tls="t"), ClusterAccess(admin_port=9090), CLOSED],
    ids=str,
)
def test_every_object_fits_kubernetes_own_schemas(manifest: Manifest, access: ClusterAccess) -> None:
    judged = 0
    for kind, one in objects(manifest, access).items():
        if kind not in OF_OTHERS:
            kubernetes_validate.validate(one, KUBERNETES, strict=True)
            judged += 1
    assert judged == 5


def test_both_protocols_are_named_ports_open_to_clients(manifest: Manifest) -> None:
    manifests = objects(manifest)
    for container in containers(manifests):
        assert [(port["name"], port["containerPort"]) for port in container["ports"]] == [
            ("http", 8080),
            ("grpc", 8081),
        ]
        assert container["readinessProbe"]["httpGet"] == {"path": "/v2/health/ready", "port": 8080}
        assert "TLS_CERT" not in str(container) and "secrets" not in str(container)
    ports = [(port["name"], port["port"], port["appProtocol"]) for port in manifests["Service"]["spec"]["ports"]]
    assert ports == [("http", 80, "http"), ("grpc", 8081, "kubernetes.io/h2c")]
    (allowed,) = manifests["NetworkPolicy"]["spec"]["ingress"]
    assert [port["port"] for port in allowed["ports"]] == ["http", "grpc"]


def test_secrets_are_mounted_by_name_and_variables_say_where(manifest: Manifest) -> None:
    manifests = objects(manifest, CLOSED)
    for container in containers(manifests):
        variables = {one["name"]: one["value"] for one in container["env"] if one["name"] != "PROTOCOL"}
        assert variables == {
            "TLS_CERT": "/secrets/tls.crt", "TLS_KEY": "/secrets/tls.key", "TOKEN_FILE": "/secrets/tokens",
            "TLS_CLIENT_CA": "/secrets/client-ca.crt", "ADMIN_PORT": "9090",
        }  # fmt: skip
        assert {"name": "secrets", "mountPath": "/secrets", "readOnly": True} in container["volumeMounts"]
    for pod in (
        manifests["Deployment"]["spec"]["template"]["spec"],
        manifests["InferenceService"]["spec"]["predictor"],
    ):
        (volume,) = [volume["projected"] for volume in pod["volumes"] if volume["name"] == "secrets"]
        held = {
            source["secret"]["name"]: [item["path"] for item in source["secret"]["items"]]
            for source in volume["sources"]
        }
        assert held == {"clients": ["client-ca.crt", "tokens"], "my-net-tls": ["tls.crt", "tls.key"]}
        assert volume["defaultMode"] == 0o440
    assert "Secret" not in manifests


def test_only_probes_and_prometheus_reach_the_admin_port_over_tls(manifest: Manifest) -> None:
    manifests = objects(manifest, CLOSED)
    for container in containers(manifests):
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            request = container[probe]["httpGet"]
            assert (request["scheme"], request["port"]) == ("HTTPS", 9090)
    plain, kserve = containers(manifests)
    assert [port["name"] for port in plain["ports"]] == ["https", "grpc", "admin"]
    assert [port["name"] for port in kserve["ports"]] == ["https", "grpc"], (
        "KServe would put every port into its Service"
    )
    ports = [(port["name"], port["port"], port["targetPort"]) for port in manifests["Service"]["spec"]["ports"]]
    assert ports == [("https", 443, "https"), ("grpc", 8081, "grpc")]
    clients, operators = manifests["NetworkPolicy"]["spec"]["ingress"]
    assert "from" not in clients and operators["ports"] == [{"port": "admin", "protocol": "TCP"}]
    assert operators["from"][0]["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "monitoring"}


def test_prometheus_takes_its_credentials_from_a_secret_of_its_own(manifest: Manifest) -> None:
    def scraped(access: ClusterAccess) -> dict[str, Any]:
        (manifests,) = objects(manifest, access)["PodMonitor"]["spec"]["podMetricsEndpoints"]
        assert (manifests.pop("path"), manifests.pop("interval")) == ("/metrics", "15s")
        return dict(manifests)

    own = "edge-my-net-monitor"
    assert scraped(OPEN_ACCESS) == {"port": "http"}
    assert scraped(ClusterAccess(admin_port=9090)) == {"port": "admin"}
    credentials = {"credentials": {"name": own, "key": "token"}}
    assert scraped(ClusterAccess(tokens="t")) == {"port": "http", "authorization": credentials}
    trusts = {"ca": {"secret": {"name": own, "key": "ca.crt"}}, "serverName": "edge-my-net"}
    assert scraped(ClusterAccess(tls="t")) == {"port": "https", "scheme": "https", "tlsConfig": trusts}
    shows = {"cert": {"secret": {"name": own, "key": "tls.crt"}}, "keySecret": {"name": own, "key": "tls.key"}}
    assert scraped(CLOSED) == {
        "port": "admin",
        "scheme": "https",
        "tlsConfig": {**trusts, **shows},
        "authorization": credentials,
    }


def test_names_are_valid_dns_labels_and_selectors_match_the_pods(manifest: Manifest) -> None:
    manifests = objects(manifest)
    assert {one["metadata"]["name"] for kind, one in manifests.items() if kind != "Kustomization"} == {"edge-my-net"}
    labels = manifests["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert labels["app.kubernetes.io/version"] == "1.5.0-a"
    for selector in (
        manifests["Service"]["spec"]["selector"],
        manifests["Deployment"]["spec"]["selector"]["matchLabels"],
        manifests["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        manifests["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
        manifests["PodMonitor"]["spec"]["selector"]["matchLabels"],
    ):
        assert selector.items() <= labels.items()
    assert sorted(manifests["Kustomization"]["resources"]) == [
        "deployment.yaml", "horizontalpodautoscaler.yaml", "networkpolicy.yaml", "poddisruptionbudget.yaml",
        "podmonitor.yaml", "service.yaml",
    ]  # fmt: skip


def test_a_gpu_release_requests_a_gpu_and_suitable_nodes(manifest: Manifest) -> None:
    needs = Needs(gpu=True, compute_capabilities=(86,))
    gpu = msgspec.structs.replace(manifest, needs=needs)
    container = objects(gpu)["Deployment"]["spec"]["template"]["spec"]["containers"][0]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 1
    selector = node_selector(gpu)
    assert (selector["nvidia.com/gpu.compute.major"], selector["nvidia.com/gpu.compute.minor"]) == ("8", "6")
    cpu = msgspec.structs.replace(manifest, needs=Needs(cpu_isa=("avx2", "avx512_vnni")))
    assert node_selector(cpu)["feature.node.kubernetes.io/cpu-cpuid.AVX512VNNI"] == "true"


def test_the_same_release_gives_the_same_bytes_without_anchors(manifest: Manifest, tmp_path: Path) -> None:
    written = write_manifests(manifest, IMAGE, tmp_path / "one")
    write_manifests(manifest, IMAGE, tmp_path / "two")
    for place in written:
        other = tmp_path / "two" / place.relative_to(tmp_path / "one")
        assert place.read_bytes() == other.read_bytes()
        assert "&id" not in place.read_text()


@pytest.mark.parametrize("image", ["edge-net", "-x:1", "Registry/Name:1", "a b:1", "net@sha256:12"])
def test_an_image_that_no_cluster_can_pull_is_refused(manifest: Manifest, image: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="expected an image to pull: REGISTRY"):
        write_manifests(manifest, image, tmp_path / "out")
    assert not (tmp_path / "out").exists()

"""A release for Kubernetes: a Kustomize base, and a KServe InferenceService. Plain dictionaries and their YAML.

For what stands beyond some tens of servers, where a cluster's own controllers roll out. The same release gives the same
bytes, so that a GitOps repository changes only when the release does. Knows no cluster and no engine.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from deploy.kubernetes.secrets import GRPC_PORT, OPEN_ACCESS, ClusterAccess, Object
from toolchain.errors import UsageError
from toolchain.records.manifest import Manifest
from toolchain.records.storage import write_atomically

USER, GRACE_S = 10001, 30
UNFIT = re.compile(r"[^a-z0-9-]+")
# what node-feature-discovery calls the features that a bundle may need
FEATURE_LABELS = {
    "avx2": "AVX2", "avx512f": "AVX512F", "avx512_vnni": "AVX512VNNI", "avx512_bf16": "AVX512BF16",
    "amx_int8": "AMXINT8", "amx_bf16": "AMXBF16",
}  # fmt: skip
REFERENCE = re.compile(r"[a-z0-9][a-z0-9._/:-]*(:[\w.-]+|@sha256:[0-9a-f]{64})")


def write_manifests(manifest: Manifest, image: str, folder: Path, access: ClusterAccess = OPEN_ACCESS) -> list[Path]:
    """The files below `folder`. image: its name in the registry that the cluster pulls from, with a tag or a digest."""
    if not REFERENCE.fullmatch(image):
        raise UsageError(f"--image={image}: expected an image to pull: REGISTRY/NAME:TAG or NAME@sha256:…")
    written = []
    for name, content in render_manifests(manifest, image, access).items():
        place = folder / name
        write_atomically(place, content.encode())
        written.append(place)
    return written


def render_manifests(manifest: Manifest, image: str, access: ClusterAccess = OPEN_ACCESS) -> dict[str, str]:
    """Name -> YAML."""
    base = {
        "deployment.yaml": deployment(manifest, image, access),
        "service.yaml": service(manifest, access),
        "poddisruptionbudget.yaml": disruption_budget(manifest),
        "horizontalpodautoscaler.yaml": autoscaler(manifest),
        "networkpolicy.yaml": network_policy(manifest, access),
        "podmonitor.yaml": pod_monitor(manifest, access),
    }
    files = {f"base/{name}": _text(value) for name, value in base.items()}
    listed = {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization", "resources": sorted(base)}
    files["base/kustomization.yaml"] = _text(listed)
    files["kserve/inferenceservice.yaml"] = _text(inference_service(manifest, image, access))
    return dict(sorted(files.items()))


def deployment(manifest: Manifest, image: str, access: ClusterAccess) -> Object:
    """Starts new pods before it removes old ones, as `toolchain ship` does."""
    spec = {
        "replicas": 2,
        "revisionHistoryLimit": 3,
        "selector": {"matchLabels": _selector(manifest)},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
        "template": {"metadata": {"labels": _labels(manifest)}, "spec": _pod(manifest, image, "server", access)},
    }
    return _object("apps/v1", "Deployment", manifest, spec)


def service(manifest: Manifest, access: ClusterAccess) -> Object:
    """The ports for clients; not the admin port."""
    http, grpc = ("https", "https") if access.tls else ("http", "kubernetes.io/h2c")
    ports = [
        {"name": http, "port": 443 if access.tls else 80, "targetPort": http, "protocol": "TCP", "appProtocol": http},
        {"name": "grpc", "port": GRPC_PORT, "targetPort": "grpc", "protocol": "TCP", "appProtocol": grpc},
    ]
    return _object("v1", "Service", manifest, {"selector": _selector(manifest), "ports": ports})


def disruption_budget(manifest: Manifest) -> Object:
    spec = {"minAvailable": 1, "selector": {"matchLabels": _selector(manifest)}}
    return _object("policy/v1", "PodDisruptionBudget", manifest, spec)


def autoscaler(manifest: Manifest) -> Object:
    """By CPU utilization, for GPUs as well: a busy server decodes images, and this needs no metrics adapter."""
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": _name(manifest)}
    metric = {
        "type": "Resource",
        "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}},
    }
    spec = {"scaleTargetRef": target, "minReplicas": 2, "maxReplicas": 8, "metrics": [metric]}
    return _object("autoscaling/v2", "HorizontalPodAutoscaler", manifest, spec)


def network_policy(manifest: Manifest, access: ClusterAccess) -> Object:
    """Ingress: the serving ports. Egress: none, since the server opens no connections."""
    spec = {
        "podSelector": {"matchLabels": _selector(manifest)},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": access.ingress,
        "egress": [],
    }
    return _object("networking.k8s.io/v1", "NetworkPolicy", manifest, spec)


def pod_monitor(manifest: Manifest, access: ClusterAccess) -> Object:
    """For the Prometheus operator."""
    spec = {
        "selector": {"matchLabels": _selector(manifest)},
        "podMetricsEndpoints": [access.scrape_endpoint(_name(manifest))],
    }
    return _object("monitoring.coreos.com/v1", "PodMonitor", manifest, spec)


def inference_service(manifest: Manifest, image: str, access: ClusterAccess) -> Object:
    """The same server as a custom predictor; it speaks the protocol (v2) that KServe's clients and router expect."""
    pod = _pod(manifest, image, "kserve-container", access)
    (container,) = pod["containers"]
    # KServe makes a Service of every port that is listed: the first as 80, the others as they are
    container["ports"] = [port for port in container["ports"] if port["name"] != "admin"]
    container["env"] = [{"name": "PROTOCOL", "value": "v2"}, *container.get("env", ())]
    predictor = {"minReplicas": 1, "maxReplicas": 8, "scaleMetric": "cpu", "scaleTarget": 70, **pod}
    spec = {"predictor": predictor}
    service = _object("serving.kserve.io/v1beta1", "InferenceService", manifest, spec)
    service["metadata"]["annotations"] = {"serving.kserve.io/deploymentMode": "RawDeployment"}
    return service


def _object(version: str, kind: str, manifest: Manifest, spec: Mapping[str, Any]) -> Object:
    metadata = {"name": _name(manifest), "labels": _labels(manifest)}
    return {"apiVersion": version, "kind": kind, "metadata": metadata, "spec": dict(spec)}


def _name(manifest: Manifest) -> str:
    """As DNS takes labels (RFC 1123)."""
    return UNFIT.sub("-", f"edge-{manifest.name.lower()}").strip("-")[:63].rstrip("-")


def _selector(manifest: Manifest) -> dict[str, str]:
    return {"app.kubernetes.io/name": _name(manifest)}


def _labels(manifest: Manifest) -> dict[str, str]:
    release = re.sub(r"[^A-Za-z0-9._-]+", "-", manifest.release).strip("-._")[:63].rstrip("-._")
    return {
        **_selector(manifest),
        "app.kubernetes.io/component": "inference-server",
        "app.kubernetes.io/managed-by": "edge-toolchain",
        "app.kubernetes.io/version": release,
    }


def _pod(manifest: Manifest, image: str, container: str, access: ClusterAccess) -> Object:
    """The sandbox of `docker run` (deploy/docker/sandbox.py), as Kubernetes writes it: its restricted standard."""
    spread = {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": _selector(manifest)},
    }
    return {
        "automountServiceAccountToken": False,
        "containers": [_container(manifest, image, container, access)],
        "nodeSelector": node_selector(manifest),
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "terminationGracePeriodSeconds": GRACE_S,
        "topologySpreadConstraints": [spread],
        "volumes": [
            {"name": "tmp", "emptyDir": {"sizeLimit": "256Mi"}},
            {"name": "state", "emptyDir": {"sizeLimit": "256Mi"}},
            *access.volumes,
        ],
    }


def _container(manifest: Manifest, image: str, name: str, access: ClusterAccess) -> Object:
    ready = access.probe("/v2/health/ready")
    limits: dict[str, str | int] = {"cpu": "2", "memory": "2Gi"}
    if manifest.needs.gpu:
        limits["nvidia.com/gpu"] = 1
    return {
        "name": name,
        "image": image,
        "ports": access.ports,
        "resources": {"requests": {"cpu": "1", "memory": "512Mi"}, "limits": limits},
        # it certifies itself on the node before it is ready, and builds an engine first where the device wants that
        "startupProbe": {**ready, "periodSeconds": 2, "failureThreshold": 300},
        "readinessProbe": {**ready, "periodSeconds": 2, "failureThreshold": 1},
        "livenessProbe": {**access.probe("/v2/health/live"), "periodSeconds": 10},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        "volumeMounts": [
            {"name": "tmp", "mountPath": "/tmp"},
            {"name": "state", "mountPath": "/state"},
            *access.mounts,
        ],
        **({"env": access.environment} if access.environment else {}),
    }


def node_selector(manifest: Manifest) -> dict[str, str]:
    """Nodes that can run it: labels of Kubernetes, of node-feature-discovery and of NVIDIA's GPU operator."""
    needs = manifest.needs
    selector = {
        "kubernetes.io/arch": {"x86_64": "amd64", "aarch64": "arm64"}.get(needs.architecture, needs.architecture)
    }
    selector |= {
        f"feature.node.kubernetes.io/cpu-cpuid.{FEATURE_LABELS[feature]}": "true"
        for feature in needs.cpu_isa
        if feature in FEATURE_LABELS
    }
    if needs.gpu:
        selector["nvidia.com/gpu.present"] = "true"
    if len(needs.compute_capabilities) == 1:
        (capabilities,) = needs.compute_capabilities
        selector |= {
            "nvidia.com/gpu.compute.major": str(capabilities // 10),
            "nvidia.com/gpu.compute.minor": str(capabilities % 10),
        }
    return selector


class _PlainDumper(yaml.SafeDumper):
    """Without anchors, which are hard to read."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002  # yaml's signature
        return True


def _text(value: Object) -> str:
    return str(yaml.dump(value, Dumper=_PlainDumper, sort_keys=True, width=120))

"""Labels: what an image records about its model, and how this toolchain's containers are recognized."""

from collections.abc import Mapping
from hashlib import sha256

import msgspec

from toolchain.errors import DockerError
from toolchain.records.bundle import Bundle

PREFIX = "dev.edge-toolchain."
OCI = "org.opencontainers.image."
BUNDLE, NAME, RELEASE, RECIPE = f"{PREFIX}bundle", f"{PREFIX}name", f"{PREFIX}release", f"{PREFIX}inputs"
TARGET, MODEL = f"{PREFIX}target", f"{PREFIX}model"
EXTRAS = f"{PREFIX}extras"  # on images: optional parts, such as "tracing"
ROLE = f"{PREFIX}role"  # on containers: "server"


class ReleaseLabels(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an image says that it is. bundle: digest of the bundle; model: the network in it."""

    name: str
    release: str
    model: str
    bundle: str
    target: str


def read_release_labels(labels: Mapping[str, str], image: str) -> ReleaseLabels:
    """DockerError: `image` is none of ours. Images of early versions have no model and no target."""
    if not (labels.get(NAME) and labels.get(RELEASE) and labels.get(BUNDLE)):
        raise DockerError(f"{image} was not built by this toolchain; build an image: toolchain image")
    return ReleaseLabels(*(labels.get(label, "") for label in (NAME, RELEASE, MODEL, BUNDLE, TARGET)))


def image_labels(bundle: Bundle, base: str, revision: str = "") -> dict[str, str]:
    """OCI annotations and this toolchain's own labels, as `docker inspect` shows them. base: the source of the base
    image; revision: the commit of this toolchain."""
    manifest = bundle.manifest
    spec = manifest.inputs[0]
    labels = {
        f"{OCI}title": manifest.name,
        f"{OCI}version": manifest.release,
        f"{OCI}description": f"{manifest.model} at {manifest.chosen} for {manifest.target}; Open Inference Protocol v2",
        BUNDLE: bundle.digest,
        NAME: manifest.name,
        RELEASE: manifest.release,
        TARGET: manifest.target,
        f"{PREFIX}backend": manifest.serving.backend,
        f"{PREFIX}precision": manifest.chosen,
        f"{PREFIX}input": f"{spec.name}: {spec}",
        f"{PREFIX}labels": str(len(manifest.labels)),
        MODEL: manifest.model,
        f"{PREFIX}base": base,
        f"{PREFIX}needs": " ".join((manifest.needs.architecture, *manifest.needs.cpu_isa)),
        # provenance: recipe, data, tool versions
        f"{PREFIX}recipe": f"sha256:{sha256(manifest.recipe.encode()).hexdigest()}",
        f"{PREFIX}data": f"{manifest.data.name} sha256:{manifest.data.sha256}",
        f"{PREFIX}tools": " ".join(f"{name}={version}" for name, version in sorted(manifest.tools.items())),
    }
    if revision:
        labels[f"{OCI}revision"] = revision
    if manifest.accuracy:
        labels[f"{PREFIX}accuracy"] = f"{manifest.accuracy.chosen:.4f}"
        labels[f"{PREFIX}accuracy-fp32"] = f"{manifest.accuracy.fp32:.4f}"
    return labels

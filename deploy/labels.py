"""What an image says of the model in it, and how our own containers are told from others'. Knows nothing of Docker."""

from toolchain.records.bundle import Bundle

PREFIX = "dev.edge-toolchain."
OCI = "org.opencontainers.image."
BUNDLE, NAME, RELEASE, RECIPE = f"{PREFIX}bundle", f"{PREFIX}name", f"{PREFIX}release", f"{PREFIX}inputs"
TARGET = f"{PREFIX}target"
ROLE = f"{PREFIX}role"  # on containers: "server"


def image_labels(bundle: Bundle, base: str) -> dict[str, str]:
    """OCI annotations and our own, all of them words that `docker inspect` shows. base: what the image stands on."""
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
        f"{PREFIX}model": manifest.model,
        f"{PREFIX}base": base,
        f"{PREFIX}needs": " ".join((manifest.needs.architecture, *manifest.needs.cpu_isa)),
    }
    if manifest.accuracy:
        labels[f"{PREFIX}accuracy"] = f"{manifest.accuracy.chosen:.4f}"
        labels[f"{PREFIX}accuracy-fp32"] = f"{manifest.accuracy.fp32:.4f}"
    return labels

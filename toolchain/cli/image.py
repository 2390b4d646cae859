"""The commands that build and show an image, and those of an image that is to leave this machine."""

from pathlib import Path

from toolchain.cli.words import require_bundle, require_shown


def image(bundle: Path, *, tag: str | None = None, tracing: bool = False) -> None:
    """Build the container image of a bundle.

    A bundle in a folder named verify, sbom or sign is written ./verify, since `image verify` is another command.

    Args:
        bundle: the folder that `build` made
        tag: the image's name; by default edge-NAME:RELEASE-TARGET
        tracing: include OpenTelemetry, for servers that send spans to a collector (OTEL_EXPORTER_OTLP_ENDPOINT)
    """
    require_bundle(bundle, "image")
    from deploy.images.build import build_image
    from toolchain.records.bundle import open_bundle
    from toolchain.views.bundle import as_json

    print(as_json(build_image(open_bundle(bundle), tag, tracing=tracing)))


def image_sign(image: str, *, key: Path | None = None) -> None:
    """Sign an image with another key; images that were built here are signed already.

    Args:
        image: the tag of an image on this machine's engine
        key: a file with the private key, base64 of 32 bytes; by default this toolchain's own
    """
    from contextlib import closing

    from deploy.docker.engine import connect
    from deploy.docker.labels import read_release_labels
    from deploy.images.build import require_image
    from deploy.images.content import read_content
    from deploy.images.signatures import sign_image as signed
    from toolchain.views.bundle import as_json

    with closing(connect()) as client:
        details = require_image(client, image)
        labels = read_release_labels(details.labels, image)
        print(as_json(signed(read_content(details), labels, key)))


def image_verify(image: str, *, bundle: Path) -> None:
    """Rebuild an image without any cache, and check that it is the same byte for byte, and signed.

    Exit status 0: the same digest and a valid signature; 1: not.

    Args:
        image: the tag of an image on this machine's engine
        bundle: the bundle's folder that it was made from
    """
    require_bundle(bundle, "image verify: --bundle")
    from deploy.images.rebuild import rebuild_and_compare
    from toolchain.records.bundle import open_bundle
    from toolchain.views.bundle import as_json

    rebuilt = rebuild_and_compare(image, open_bundle(bundle))
    print(as_json(rebuilt))
    if not (rebuilt.same and rebuilt.signed_by):
        raise SystemExit(1)


def image_sbom(image: str, *, out: Path | None = None) -> None:
    """List an image's contents as a CycloneDX document: packages, wheels, the server's code, the model and its data.

    Args:
        image: the tag of an image on this machine's engine
        out: the file to write it to, indented
    """
    from contextlib import closing

    import msgspec

    from deploy.docker.engine import connect
    from deploy.images.build import require_image
    from deploy.images.content import read_content
    from deploy.images.sbom import build_sbom as listed
    from toolchain.records.storage import check_output_path, write_atomically

    if out is not None:
        check_output_path(out)
    with closing(connect()) as client:
        details = require_image(client, image)
        document = listed(client, details, read_content(details).config, image)
    if out is not None:
        write_atomically(out, document.encode() + b"\n")
    print(msgspec.json.encode(msgspec.json.decode(document)).decode())


def manifests(
    what: str,
    *,
    image: str,
    to: Path,
    tls_secret: str | None = None,
    client_ca_secret: str | None = None,
    token_secret: str | None = None,
    admin_port: int | None = None,
) -> None:
    """Write a release's manifests for Kubernetes: a Kustomize base, and a KServe InferenceService.

    Secrets are named and mounted, never read. Their keys are named like the files of `toolchain run --secrets`.

    Args:
        what: a bundle's folder, or an image's tag
        image: the name that the cluster pulls: REGISTRY/NAME:TAG or, better, NAME@sha256:…
        to: the folder to write base/ and kserve/ into
        tls_secret: the Secret with tls.crt and tls.key; by default no TLS
        client_ca_secret: the Secret with client-ca.crt, the authority that signs client certificates
        token_secret: the Secret with tokens, one a line
        admin_port: a port for metrics, control and probes only, such as 9090; by default the clients' port serves them
    """
    from deploy.containers.commands import read_manifest
    from deploy.kubernetes.manifests import write_manifests
    from deploy.kubernetes.secrets import access_from_flags
    from toolchain.views.bundle import as_json

    how = access_from_flags(tls_secret, client_ca_secret, token_secret, admin_port)
    print(as_json({"files": [str(place) for place in write_manifests(read_manifest(what), image, to, how)]}))


def show(what: str) -> None:
    """Describe a bundle, an image or a weights file: model, candidates, accuracy, samples, needs, versions.

    Args:
        what: a bundle's folder, an image's tag, or a .safetensors file
    """
    require_shown(what)
    if what.endswith(".safetensors"):
        _show_weights(Path(what))
        return
    from deploy.containers.commands import read_manifest
    from toolchain.views.bundle import as_json, manifest_page

    manifest = read_manifest(what)
    print(manifest_page(manifest), end="\n\n")
    print(as_json(manifest))


def _show_weights(path: Path) -> None:
    from toolchain.records.weights import require_weights
    from toolchain.views.bundle import as_json
    from toolchain.views.weights import weights_table

    record = require_weights(path)
    print(weights_table(record), end="\n\n")
    print(as_json(record))

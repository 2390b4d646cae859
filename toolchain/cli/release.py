"""The verbs of an image that is to leave this machine. Thin as those of cli.py."""

from pathlib import Path


def release_sign(image: str, *, key: Path | None = None) -> None:
    """Sign an image, so that edge servers take it; what is built here is signed already.

    Args:
        image: the tag of an image on this machine's engine
        key: a file with the private key, base64 of 32 bytes; without it this toolchain's own
    """
    from contextlib import closing

    from deploy.docker.engine import connect
    from deploy.images.build import image_here
    from deploy.images.signatures import sign as signed
    from toolchain.views.bundle import as_json

    with closing(connect()) as client:
        print(as_json(signed(image_here(client, image), key)))


def release_verify(image: str, *, bundle: Path) -> None:
    """Build an image once more from nothing that is kept, and see whether it is the same, byte for byte, and signed.

    Exit code 0: the same digest, and a signature that fits; 1: not.

    Args:
        image: the tag of an image on this machine's engine
        bundle: the folder that it was made from
    """
    from deploy.images.rebuild import rebuilt
    from toolchain.records.bundle import open_bundle
    from toolchain.views.bundle import as_json

    found = rebuilt(image, open_bundle(bundle))
    print(as_json(found))
    if not (found.same and found.signed_by):
        raise SystemExit(1)


def release_sbom(image: str, *, out: Path | None = None) -> None:
    """List what is in an image as a CycloneDX document: packages, wheels, our code, the model and its data.

    Args:
        image: the tag of an image on this machine's engine
        out: the file to write it to, indented
    """
    from contextlib import closing

    import msgspec

    from deploy.docker.engine import connect
    from deploy.images.build import image_here
    from deploy.images.sbom import sbom as listed
    from toolchain.records.storage import check_output_path, write_atomically

    if out is not None:
        check_output_path(out)
    with closing(connect()) as client:
        document = listed(client, image_here(client, image), image)
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
    """Write a release for Kubernetes: a Kustomize base, and a KServe InferenceService.

    Secrets are named and mounted, never read. Their keys are called as the files that `toolchain run --secrets` takes.

    Args:
        what: a bundle's folder, or an image's tag
        image: the name that the cluster pulls: REGISTRY/NAME:TAG or, better, NAME@sha256:…
        to: the folder to write base/ and kserve/ into
        tls_secret: the Secret with tls.crt and tls.key; without it no TLS
        client_ca_secret: the Secret with client-ca.crt, who signs the certificates of clients
        token_secret: the Secret with tokens, one a line
        admin_port: a port for metrics, control and probes alone, as 9090; without it they are where clients ask
    """
    from deploy.containers.commands import described
    from deploy.kubernetes.manifests import write
    from deploy.kubernetes.secrets import closed
    from toolchain.views.bundle import as_json

    how = closed(tls_secret, client_ca_secret, token_secret, admin_port)
    print(as_json({"files": [str(place) for place in write(described(what), image, to, how)]}))

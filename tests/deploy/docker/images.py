"""Images as engines save them, made in memory: a configuration, layers, and the layouts that they are saved in."""

import gzip
import io
import json
import tarfile
from collections.abc import Mapping
from typing import Any

from deploy.docker.archive import ImageContent, digest_text

Members = dict[str, bytes]
LABELS = {"dev.edge-toolchain.name": "net"}


def layer(name: str, text: bytes) -> bytes:
    return tar_of({name: text})


def tar_of(members: Mapping[str, bytes], links: Mapping[str, str] | None = None) -> bytes:
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w") as archive:
        for name, held_there in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(held_there)
            archive.addfile(entry, io.BytesIO(held_there))
        for name, target in (links or {}).items():
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            archive.addfile(entry)
    return held.getvalue()


LAYERS = (layer("first", b"1" * 3000), layer("second", b"2" * 700), layer("third", b"3"))


def configuration(layers: tuple[bytes, ...] = LAYERS, labels: Mapping[str, str] = LABELS) -> bytes:
    rootfs = {"type": "layers", "diff_ids": [digest_text(one) for one in layers]}
    document: dict[str, Any] = {"architecture": "amd64", "os": "linux", "rootfs": rootfs}
    return json.dumps({**document, "config": {"Labels": dict(labels)}}).encode()


def content(layers: tuple[bytes, ...] = LAYERS) -> ImageContent:
    config = configuration(layers)
    sizes = tuple(map(len, layers))
    return ImageContent(digest_text(config), len(config), tuple(map(digest_text, layers)), sizes)


def saved_by_20_10(layers: tuple[bytes, ...] = LAYERS) -> bytes:
    """Folders with a layer each; a layer that comes twice is a link the second time."""
    config, members, links, names = configuration(layers), Members(), dict[str, str](), []
    for number, one in enumerate(layers):
        names.append(f"{number}f/layer.tar")
        first = layers.index(one)
        if first < number:
            links[names[-1]] = f"../{first}f/layer.tar"
        else:
            members[names[-1]] = one
        members[f"{number}f/VERSION"] = b"1.0"
    name = f"{digest_text(config)[7:]}.json"
    entry = {"Config": name, "RepoTags": ["edge-net:2"], "Layers": names}
    return tar_of({**members, name: config, "manifest.json": json.dumps([entry]).encode()}, links)


def saved_as_oci(zipped: bool = False, docker_manifest: bool = True, without: int = 0, nested: bool = False) -> bytes:
    """As Engine 25 and the containerd store do. without: lowest layers whose content is not there; nested: the index
    names an index with the image and an attestation."""
    blobs, members = Members(), Members()

    def blob(document: bytes, kind: str) -> dict[str, Any]:
        digest = digest_text(document)
        blobs[f"blobs/sha256/{digest[7:]}"] = document
        return {"mediaType": kind, "digest": digest, "size": len(document)}

    config = blob(configuration(), "application/vnd.oci.image.config.v1+json")
    layers = [blob(gzip.compress(one) if zipped else one, "application/vnd.oci.image.layer.v1.tar") for one in LAYERS]
    manifest = {"schemaVersion": 2, "config": config, "layers": layers}
    image = blob(json.dumps(manifest).encode(), "application/vnd.oci.image.manifest.v1+json")
    if nested:
        proof = {**blob(b"{}", image["mediaType"]), "annotations": {"vnd.docker.reference.type": "attestation"}}
        index = json.dumps({"schemaVersion": 2, "manifests": [image, proof]}).encode()
        image = blob(index, "application/vnd.oci.image.index.v1+json")
    image["annotations"] = {"io.containerd.image.name": "edge-net:2"}
    members["index.json"] = json.dumps({"schemaVersion": 2, "manifests": [image]}).encode()
    members["oci-layout"] = b'{"imageLayoutVersion": "1.0.0"}'
    names = [f"blobs/sha256/{one['digest'][7:]}" for one in layers]
    if docker_manifest:
        entry = {"Config": f"blobs/sha256/{config['digest'][7:]}", "RepoTags": ["edge-net:2"], "Layers": names}
        members["manifest.json"] = json.dumps([entry]).encode()
    for name in names[:without]:
        del blobs[name]
    return tar_of({**blobs, **members})

"""The bill of materials of an image: Debian and Python packages, our own code, the model and its training data.

CycloneDX 1.6 (ECMA-424), read from the image's files, not from what was meant to be in it: dpkg's records and the
`.dist-info` of installed wheels. The same image gives the same document.
"""

import tarfile
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from email.parser import HeaderParser
from uuid import NAMESPACE_URL, uuid5

from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import LicenseExpression
from cyclonedx.output.json import JsonV1Dot6
from docker import DockerClient
from docker.models.images import Image
from packageurl import PackageURL

from deploy.docker.tar import read_member
from deploy.images.build import parse_manifest
from toolchain import __version__
from toolchain.errors import DockerError
from toolchain.records.bundle import MANIFEST
from toolchain.records.manifest import Manifest

DPKG, SITE, SYSTEM = "var/lib/dpkg/status", "opt/site/", "usr/lib/os-release"
INDENT = 2
PackageFiles = dict[str, bytes]


def build_sbom(client: DockerClient, image: Image, config: str, tag: str) -> str:
    """The bill of materials of an image, as JSON. config: the digest of its configuration. DockerError: the image was
    not built by this toolchain."""
    files = _read_package_files(client, image)
    if f"bundle/{MANIFEST}" not in files:
        raise DockerError(f"{tag} has no /bundle: it was not built by `toolchain image`")
    manifest = parse_manifest(files[f"bundle/{MANIFEST}"], tag)
    digest = config.rpartition(":")[2]
    whole = Component(
        name=tag.rpartition(":")[0] or tag,
        version=manifest.release,
        type=ComponentType.CONTAINER,
        bom_ref=digest,
        hashes=[_sha256_hash(digest)],
        properties=[Property(name=name, value=value) for name, value in sorted(image.labels.items())],
    )
    parts = [
        *_debian_components(files),
        *_python_components(files),
        *_model_components(manifest),
        _toolchain_component(),
    ]
    # a fixed time: the content of an image does not change
    about = BomMetaData(component=whole, timestamp=datetime.fromtimestamp(0, UTC))
    bom = Bom(components=parts, metadata=about, serial_number=uuid5(NAMESPACE_URL, f"sha256:{digest}"))
    bom.register_dependency(whole, parts)
    return JsonV1Dot6(bom).output_as_string(indent=INDENT)


def _read_package_files(client: DockerClient, image: Image) -> PackageFiles:
    """The files that describe packages, exported from a container that is created but never started."""
    created = client.containers.create(str(image.id), "none")
    try:
        with tempfile.TemporaryFile() as whole:
            for block in created.export():
                whole.write(bytes(block))  # type: ignore[arg-type]  # its stub says str
            whole.seek(0)
            with tarfile.open(fileobj=whole) as archive:
                return {
                    entry.name: read_member(archive, entry)
                    for entry in archive
                    if entry.isreg() and _describes_packages(entry.name)
                }
    finally:
        created.remove(force=True)


def _describes_packages(name: str) -> bool:
    if name.startswith(SITE):
        return name.endswith(".dist-info/METADATA") and name.count("/") == 3
    return name == DPKG or name.startswith(f"{DPKG}.d/") or name in (SYSTEM, f"bundle/{MANIFEST}")


def _debian_components(files: PackageFiles) -> Iterator[Component]:
    lines = files.get(SYSTEM, b"").decode().splitlines()
    system = dict(line.partition("=")[::2] for line in lines if "=" in line)
    name, version = (system.get(key, "unknown").strip('"') for key in ("ID", "VERSION_ID"))
    yield Component(name=name, version=version, type=ComponentType.OPERATING_SYSTEM, bom_ref=f"os:{name}-{version}")
    records = [file for place, file in files.items() if place.startswith(DPKG)]
    for record in b"\n\n".join(sorted(records)).split(b"\n\n"):
        fields = HeaderParser().parsestr(record.decode(errors="replace"))
        if fields["Package"]:
            about = {"arch": fields["Architecture"] or "all", "distro": f"{name}-{version}"}
            url = PackageURL("deb", name, fields["Package"], fields["Version"], about)
            yield Component(name=fields["Package"], version=fields["Version"], purl=url, bom_ref=str(url))


def _python_components(files: PackageFiles) -> Iterator[Component]:
    for place in sorted(files):
        if place.startswith(SITE):
            fields = HeaderParser().parsestr(files[place].decode(errors="replace"))
            url = PackageURL("pypi", None, fields["Name"].lower(), fields["Version"])
            licences = [LicenseExpression(fields["License-Expression"])] if fields["License-Expression"] else []
            yield Component(
                name=fields["Name"], version=fields["Version"], purl=url, bom_ref=str(url), licenses=licences
            )


def _model_components(manifest: Manifest) -> Iterator[Component]:
    for file in manifest.files:
        yield Component(
            name=file.path,
            version=manifest.release,
            type=ComponentType.MACHINE_LEARNING_MODEL if file.path in manifest.serving.files else ComponentType.FILE,
            bom_ref=f"bundle:{file.path}",
            hashes=[_sha256_hash(file.sha256)],
        )
    data = manifest.data
    yield Component(
        name=data.name, type=ComponentType.DATA, bom_ref=f"data:{data.name}", hashes=[_sha256_hash(data.sha256)],
        description=data.source,
    )  # fmt: skip


def _toolchain_component() -> Component:
    url = PackageURL("pypi", None, "edge-toolchain", __version__)
    kind = ComponentType.APPLICATION
    return Component(name="edge-toolchain", version=__version__, type=kind, purl=url, bom_ref=str(url))


def _sha256_hash(digest: str) -> HashType:
    return HashType(alg=HashAlgorithm.SHA_256, content=digest)

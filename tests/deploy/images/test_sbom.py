"""The list of a real image, judged by CycloneDX's own schema."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from deploy.docker.labels import NAME
from deploy.images.sbom import build_sbom
from tests.bundles import null_bundle
from tests.deploy.docker.images import tar_of

NUMPY = b"Metadata-Version: 2.4\nName: NumPy\nVersion: 2.4.6\nLicense-Expression: BSD-3-Clause\n\ntext: not a field\n"
LIBC = b"Package: libc6\nVersion: 2.36-9+deb12u10\nArchitecture: amd64\nDescription: C library\n more\n"


def exported(bundle: Path) -> bytes:
    """A container's files, as an engine exports them."""
    files = {
        "usr/lib/os-release": b'ID=debian\nVERSION_ID="12"\n',
        "var/lib/dpkg/status.d/libc6": LIBC,
        "opt/site/numpy-2.4.6.dist-info/METADATA": NUMPY,
        "opt/site/numpy/dist-info/METADATA": b"Name: other",
        "bundle/manifest.json": (bundle / "manifest.json").read_bytes(),
    }
    return tar_of(files)


def test_the_list_names_packages_wheels_code_model_and_data(tmp_path: Path) -> None:
    bundle = null_bundle(tmp_path / "net.bundle", name="net", release="1.5.0")
    removed: list[bool] = []

    def remove(force: bool) -> None:
        removed.append(force)

    container = SimpleNamespace(export=lambda: [exported(bundle.folder)], remove=remove)
    client: Any = SimpleNamespace(containers=SimpleNamespace(create=lambda image, command: container))
    image: Any = SimpleNamespace(id="sha256:" + "a" * 64, labels={NAME: "net"})
    document = build_sbom(client, image, image.id, "edge-net:1.5.0")
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(document) is None
    assert document == build_sbom(client, image, image.id, "edge-net:1.5.0")
    assert removed == [True, True]
    found = json.loads(document)
    parts = {(one["type"], one["name"]): one for one in found["components"]}
    assert parts["library", "libc6"]["purl"] == "pkg:deb/debian/libc6@2.36-9%2Bdeb12u10?arch=amd64&distro=debian-12"
    assert parts["library", "NumPy"]["purl"] == "pkg:pypi/numpy@2.4.6"
    assert parts["library", "NumPy"]["licenses"] == [{"expression": "BSD-3-Clause"}]
    assert parts["machine-learning-model", "model.null.json"]["hashes"][0]["alg"] == "SHA-256"
    assert set(parts) >= {("operating-system", "debian"), ("application", "edge-toolchain"), ("data", "made")}
    whole = found["metadata"]["component"]
    assert (whole["type"], whole["name"], whole["version"]) == ("container", "edge-net", "1.5.0")

"""Resolves the three images that the gate compares: candidate, baseline, anchor."""

from collections.abc import Sequence
from contextlib import closing
from hashlib import sha256
from pathlib import Path

from docker import DockerClient

from deploy.docker.engine import connect
from deploy.docker.labels import BUNDLE, NAME
from deploy.gate.gate import Arm
from deploy.images.build import default_tag, find_image, parse_manifest, read_bundle_files
from deploy.ledger.ledger import Ledger, OtherRelease
from toolchain.errors import DockerError, UsageError
from toolchain.records.bundle import CERTIFY, MANIFEST, Bundle, open_bundle
from toolchain.records.gate import ANCHOR, BASELINE, CANDIDATE

NO_ANCHOR = "none"


def resolve_arms(candidate: str, against: str | None, anchor: str | None, ledger: Ledger) -> dict[str, Arm] | None:
    """The arms by role; None when there is no other release yet. candidate: an image's tag or a bundle's folder.

    against, anchor: a release's name or an image's tag; by default the newest earlier release that passed, and the
    oldest one. Records the candidate's release in the ledger, as deploy does. UsageError, DockerError.
    """
    with closing(connect()) as client:
        image, bundle = _image_of(client, candidate)
        ledger.record_release(bundle, _size(client, image))
        manifest = bundle.manifest
        others = ledger.other_releases(bundle.digest, manifest.name, manifest.target)
        itself = OtherRelease(bundle.digest, manifest.release, "", False)
        before = (
            _find_release(client, against, (itself, *others), manifest.name) if against else _newest_passing(others)
        )
        if before is None:
            return None
        arms = {CANDIDATE: _make_arm(client, image, bundle), BASELINE: _arm_of_bundle(client, before)}
        # a release against itself measures the noise of this device and needs no anchor
        anchor_bundle = (
            None if before == bundle.digest and not anchor else _anchor(client, anchor, others, manifest.name)
        )
        if anchor_bundle not in (None, before, bundle.digest):
            arms[ANCHOR] = _arm_of_bundle(client, str(anchor_bundle))
        return arms


def read_arm(image: str) -> Arm:
    """The arm of an image, or of a bundle's folder whose image is on this engine."""
    with closing(connect()) as client:
        return _make_arm(client, *_image_of(client, image))


def _anchor(client: DockerClient, anchor: str | None, others: Sequence[OtherRelease], name: str) -> str | None:
    """The requested anchor, else the oldest earlier release whose image is on this engine."""
    if anchor == NO_ANCHOR:
        return None
    if anchor:
        return _find_release(client, anchor, others, name)
    return next((other.bundle for other in reversed(others) if other.older and _tag_of(client, other.bundle)), None)


def _newest_passing(others: Sequence[OtherRelease]) -> str | None:
    """The newest earlier release that passed; without one, the newest that did not regress."""
    before = [other for other in others if other.older]
    passed = next((release.bundle for release in before if release.verdict == "passed"), None)
    return passed or next((release.bundle for release in before if release.verdict != "regressed"), None)


def _find_release(client: DockerClient, what: str, others: Sequence[OtherRelease], name: str) -> str:
    """The bundle digest of the release or image named `what`."""
    named = next((other.bundle for other in others if other.release == what), None)
    if named:
        return named
    image = find_image(client, what)
    if image and not any(is_name_of(tag, what) for tag in image.tags):
        image = None  # the engine accepts the first digits of an image's id as its name, and `9` is a release
    if image and image.labels.get(NAME) == name:
        return str(image.labels[BUNDLE])
    if image and image.labels.get(NAME):
        raise UsageError(f"{what} is a release of '{image.labels[NAME]}', the candidate one of '{name}'")
    known = ", ".join(dict.fromkeys(other.release for other in others)) or "none"
    raise UsageError(f"no release '{what}' of {name}; the ledger has: {known}; an image's tag works too")


def is_name_of(tag: str, what: str) -> bool:
    """Whether an image's tag is what a person typed: Podman writes a registry in front of names without one."""
    for registry in ("", "docker.io/library/", "localhost/"):
        if tag in (f"{registry}{what}", f"{registry}{what}:latest"):
            return True
    return False


def _image_of(client: DockerClient, what: str) -> tuple[str, Bundle]:
    """(tag, bundle) of a bundle's folder or of an image."""
    if (Path(what) / MANIFEST).is_file():
        bundle = open_bundle(Path(what))
        tag = _tag_of(client, bundle.digest)
        if not tag:
            raise DockerError(
                f"{what}: its image ({default_tag(bundle)}) is not on this engine; build it: toolchain image"
            )
        return tag, bundle
    (content,) = read_bundle_files(client, what, MANIFEST)
    return what, Bundle(Path("/bundle"), parse_manifest(content, what), sha256(content).hexdigest())


def _tag_of(client: DockerClient, bundle: str) -> str | None:
    """The tag of an image on this engine that holds the bundle; None if there is none."""
    images = client.images.list(filters={"label": f"{BUNDLE}={bundle}"})
    return next((str(tag) for image in images for tag in sorted(image.tags)), None)


def _arm_of_bundle(client: DockerClient, bundle: str) -> Arm:
    tag = _tag_of(client, bundle)
    if not tag:
        raise DockerError(
            f"bundle {bundle[:12]}: its image is not on this engine; build or load it, or choose another: --against=…"
        )
    return _make_arm(client, *_image_of(client, tag))


def _make_arm(client: DockerClient, image: str, bundle: Bundle) -> Arm:
    manifest = bundle.manifest
    certify = next((file.sha256 for file in manifest.files if file.path == CERTIFY), "")
    return Arm(image, _size(client, image), bundle.digest, manifest.name, manifest.release, certify)


def _size(client: DockerClient, image: str) -> int:
    details = find_image(client, image)
    return int(details.attrs["Size"]) if details else 0

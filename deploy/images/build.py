"""Builds a bundle into an image: writes the build context, builds without a network, measures the result.

Does not know what the model computes. Nothing enters the image but the bundle and what is listed below.
"""

import io
import logging
import os
import re
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from shutil import copyfile, copytree

import docker.errors
from docker import DockerClient
from docker.models.containers import Container
from docker.models.images import Image as EngineImage

from deploy.docker.engine import connect, explain_error, find_builder, is_podman
from deploy.docker.labels import EXTRAS, RECIPE, image_labels, read_release_labels
from deploy.docker.tar import read_member
from deploy.images.base import base_image
from deploy.images.content import read_content
from deploy.images.install import set_times
from deploy.images.signatures import check_signature, read_signature, sign_image
from deploy.images.timestamps import strip_build_times
from deploy.images.variants import LOCKS, ImageVariant, bundle_variant
from deploy.images.wheelhouse import built_lines, fill_wheelhouse
from toolchain.errors import DockerError, RecordError, UnknownImage
from toolchain.records.bundle import MANIFEST, Bundle
from toolchain.records.manifest import FORMAT, Manifest
from toolchain.records.storage import decode_record

logger = logging.getLogger(__name__)


ROOT = Path(__file__).parents[2]
INSTALLER_LOCK = LOCKS / "pip.txt"
SUFFIXES = (".py", ".binpb", ".html", ".css", ".js")  # our code, and the files of the web page
APP = ("deploy/__init__.py", "deploy/runtime", "toolchain/__init__.py", "toolchain/errors.py", "toolchain/records")
TIMELESS = ("--build-arg=SOURCE_DATE_EPOCH=0",)  # newer builders date the image by it as well
TAG = re.compile(r"[^a-z0-9_.-]+")


@dataclass(frozen=True)
class BuiltImage:
    """id: the digest of its configuration, `sha256:…`, whatever its engine calls it; size_bytes: unpacked, with the
    base; built: False when it already existed."""

    id: str
    tag: str
    size_bytes: int
    base: str
    built: bool


def default_tag(bundle: Bundle) -> str:
    """`edge-<name>:<release>-<target>`, in the characters that Docker allows."""
    name, release, target = (
        TAG.sub("-", part.lower()).strip("-.")
        for part in (bundle.manifest.name, bundle.manifest.release, bundle.manifest.target)
    )
    return f"edge-{name}:{release}-{target}"


def build_image(bundle: Bundle, tag: str | None, fresh: bool = False, tracing: bool = False) -> BuiltImage:
    """The image of `bundle`, built only when one of its inputs has changed. fresh: build anyway, without the cache;
    tracing: include OpenTelemetry. DockerError when it cannot be built."""
    kind = bundle_variant(bundle.manifest, tracing)
    with closing(connect()) as client:
        base = base_image(client)
        tag = tag or default_tag(bundle)
        inputs = _digest_of_inputs(bundle, base.digest, kind)
        found = find_image(client, tag)
        if found and not fresh and found.labels.get(RECIPE) == inputs and _is_signed(found, tag):
            return BuiltImage(read_content(found).config, tag, found.attrs["Size"], base.source, built=False)
        wheels = fill_wheelhouse([*kind.locks, INSTALLER_LOCK], sources=kind.sources)
        labels = {**image_labels(bundle, base.source, _revision()), RECIPE: inputs}
        labels |= {EXTRAS: "tracing"} if tracing else {}
        logger.info(f"image: building {tag} on {base.source}")
        with tempfile.TemporaryDirectory(prefix="edge-image-") as context:
            write_context(Path(context), bundle, wheels, kind)
            id = _build(client, Path(context), tag, base.tag, fresh, labels)
        built = find_image(client, id)
        if not built:
            raise DockerError(
                f"{tag}: built, but the engine does not have it; do `docker` and DOCKER_HOST name one engine?"
            )
        made = strip_build_times(client, built, tag)
        content = read_content(made)
        sign_image(content, read_release_labels(made.labels, tag))
        return BuiltImage(content.config, tag, made.attrs["Size"], base.source, built=True)


def _is_signed(image: EngineImage, tag: str) -> bool:
    """Whether the image is one that was built and signed here. Labels and a tag are no proof: what was loaded or built
    by others may carry the same."""
    content = read_content(image)
    try:
        check_signature(read_signature(content.config), content, read_release_labels(image.labels, tag), tag)
    except (RecordError, DockerError) as error:
        logger.info(f"image: building it again: {error}")
        return False
    return True


def find_image(client: DockerClient, image: str) -> EngineImage | None:
    try:
        return client.images.get(image)
    except docker.errors.ImageNotFound:
        return None
    except docker.errors.APIError as error:
        raise explain_error(error, image) from error


def require_image(client: DockerClient, image: str) -> EngineImage:
    """As find_image(); UnknownImage when there is no such image."""
    found = find_image(client, image)
    if found is None:
        raise UnknownImage(f"{image}: no such image on this engine; build it: toolchain image")
    return found


def image_manifest(image: str) -> Manifest:
    """The manifest of the bundle in `image`; DockerError when there is no such image or no bundle in it."""
    with closing(connect()) as client:
        (content,) = read_bundle_files(client, image, MANIFEST)
    return parse_manifest(content, image)


def parse_manifest(content: bytes, image: str) -> Manifest:
    return decode_record(content, Manifest, f"{image}:/bundle/{MANIFEST}", FORMAT)


def read_bundle_files(client: DockerClient, image: str, *names: str) -> list[bytes]:
    """Files of the bundle in `image`, read without running the image."""
    try:
        created = client.containers.create(image)
    except docker.errors.ImageNotFound as error:
        raise UnknownImage(f"{image}: no such image on this engine; build it: toolchain image") from error
    except docker.errors.APIError as error:
        raise explain_error(error, image) from error
    try:
        return [_read_file(created, name) for name in names]
    except docker.errors.NotFound as error:
        raise DockerError(f"{image} has no /bundle: it was not built by `toolchain image`") from error
    finally:
        created.remove(force=True)


def _read_file(container: Container, name: str) -> bytes:
    stream, _ = container.get_archive(f"/bundle/{name}")
    with tarfile.open(fileobj=io.BytesIO(b"".join(stream))) as archive:
        return read_member(archive, name)


def app_files() -> Iterator[Path]:
    """Every file of our own code that goes into the image, relative to the repository's root."""
    for name in APP:
        path = ROOT / name
        files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.suffix in SUFFIXES)
        yield from (file.relative_to(ROOT) for file in files)


def write_context(context: Path, bundle: Bundle, wheels: Path, kind: ImageVariant) -> None:
    """Write the build context that the Dockerfiles expect; modes and times are the same on every machine."""
    for folder in ("making", "app"):
        (context / folder).mkdir()
    for file in app_files():
        target = context / "app" / file
        target.parent.mkdir(parents=True, exist_ok=True)
        copyfile(ROOT / file, target)
    copyfile(kind.dockerfile, context / "Dockerfile")
    (context / "making" / "lock.txt").write_text("".join(lock.read_text() for lock in kind.locks) + built_lines(wheels))
    copyfile(ROOT / "deploy/images/install.py", context / "making" / "install.py")
    copytree(wheels, context / "wheels", copy_function=copyfile)
    copytree(bundle.folder, context / "bundle", copy_function=copyfile)
    for path in context.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    set_times(context, 0)


def _digest_of_inputs(bundle: Bundle, base: str, kind: ImageVariant) -> str:
    files = [
        kind.dockerfile,
        *kind.locks,
        *kind.sources,
        INSTALLER_LOCK,
        ROOT / "deploy/images/install.py",
        ROOT / "deploy/docker/labels.py",
    ]
    running = sha256(f"{bundle.digest} {base}".encode())
    for file in (*files, *(ROOT / name for name in app_files())):
        running.update(f"{file.relative_to(ROOT)} ".encode() + sha256(file.read_bytes()).digest())
    return running.hexdigest()


def _build(client: DockerClient, context: Path, tag: str, base: str, fresh: bool, labels: dict[str, str]) -> str:
    """The engine's id of what was built, which the builder writes: the tag may name something else by now."""
    command, environment = find_builder(is_podman(client))
    written = context / "image.id"  # in a folder of our own; the builder writes it when it has read the context
    label_flags = [f"--label={name}={value}" for name, value in sorted(labels.items())]
    options = [f"--build-arg=BASE={base}", "--network=none", *TIMELESS, *(["--no-cache"] if fresh else [])]
    done = subprocess.run(
        [*command, *options, f"--tag={tag}", f"--iidfile={written}", *label_flags, os.fspath(context)],
        capture_output=True, text=True, env=environment, check=False,
    )  # fmt: skip
    if done.returncode:
        raise explain_error(_reason(done.stderr), f"{tag}: the build failed")
    return written.read_text().strip()


def _revision() -> str:
    """The commit of this checkout, with `-dirty` when there are uncommitted changes; "" without git. An
    installed package has none: a repository round it is somebody else's."""
    if not (ROOT / ".git").exists():
        return ""
    try:
        command = ["git", "-C", str(ROOT), "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def _reason(log: str) -> str:
    """The last output of the failed step (`#6 1.25 …`), otherwise BuildKit's own last lines."""
    output = re.findall(r"^#\d+ \d+\.\d+ (.+)$", log, re.MULTILINE)
    return " ".join(output[-2:] or log.splitlines()[-2:])

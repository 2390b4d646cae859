"""A bundle -> an image: lays out the build's context, runs the build without a network, weighs the result.

Knows nothing of what the model computes. What goes in besides the bundle is listed below, and nothing else does.
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

from deploy.docker.engine import builder, connect, explained
from deploy.docker.labels import EXTRAS, RECIPE, image_labels
from deploy.docker.tar import content_of
from deploy.images.base import base_image
from deploy.images.install import set_times
from deploy.images.signatures import sign, signature_of
from deploy.images.timestamps import timeless
from deploy.images.variants import Kind, kind_for
from deploy.images.wheelhouse import built_lines, wheelhouse
from toolchain.errors import DockerError
from toolchain.records.bundle import MANIFEST, Bundle
from toolchain.records.manifest import FORMAT, Manifest
from toolchain.records.storage import decode_record

logger = logging.getLogger(__name__)


ROOT = Path(__file__).parents[2]
INSTALLER_LOCK = ROOT / "requirements" / "pip.txt"
SUFFIXES = (".py", ".binpb", ".html", ".css", ".js")  # our code, and the files of the web page
APP = ("deploy/__init__.py", "deploy/runtime", "toolchain/__init__.py", "toolchain/errors.py", "toolchain/records")
TIMELESS = ("--build-arg=SOURCE_DATE_EPOCH=0",)  # newer builders also date the image by it
TAG = re.compile(r"[^a-z0-9_.-]+")


@dataclass(frozen=True)
class Image:
    """id: `sha256:…`; size_bytes: unpacked, with the base; built: False when it was here already."""

    id: str
    tag: str
    size_bytes: int
    base: str
    built: bool


def default_tag(bundle: Bundle) -> str:
    """`edge-<name>:<release>-<target>`, in the letters that Docker allows."""
    name, release, target = (
        TAG.sub("-", part.lower()).strip("-.")
        for part in (bundle.manifest.name, bundle.manifest.release, bundle.manifest.target)
    )
    return f"edge-{name}:{release}-{target}"


def build_image(bundle: Bundle, tag: str | None, fresh: bool = False, tracing: bool = False) -> Image:
    """The image of `bundle`; not built again when nothing that goes in has changed. fresh: built all the same, from
    nothing that is kept. tracing: with OpenTelemetry. DockerError says why not."""
    kind = kind_for(bundle.manifest, tracing)
    with closing(connect()) as client:
        base = base_image(client)
        tag = tag or default_tag(bundle)
        inputs = _digest_of_inputs(bundle, base.id, kind)
        found = find_image(client, tag)
        if found and not fresh and found.labels.get(RECIPE) == inputs:
            _signed(found)
            return Image(str(found.id), tag, found.attrs["Size"], base.source, built=False)
        wheels = wheelhouse([*kind.locks, INSTALLER_LOCK], sources=kind.sources)
        labels = {**image_labels(bundle, base.source, _revision()), RECIPE: inputs}
        labels |= {EXTRAS: "tracing"} if tracing else {}
        logger.info(f"image: building {tag} on {base.source}")
        with tempfile.TemporaryDirectory(prefix="edge-image-") as context:
            lay_out(Path(context), bundle, wheels, kind)
            _build(Path(context), tag, base.tag, fresh, labels)
        if not find_image(client, tag):
            raise DockerError(
                f"{tag}: built, but the engine does not have it; do `docker` and DOCKER_HOST name one engine?"
            )
        made = timeless(client, tag)
        _signed(made)
        return Image(str(made.id), tag, made.attrs["Size"], base.source, built=True)


def _signed(image: EngineImage) -> None:
    """Whoever builds an image says so; servers take no other."""
    if not signature_of(str(image.id)):
        sign(image)


def find_image(client: DockerClient, image: str) -> EngineImage | None:
    try:
        return client.images.get(image)
    except docker.errors.ImageNotFound:
        return None
    except docker.errors.APIError as error:
        raise explained(error, image) from error


def image_here(client: DockerClient, image: str) -> EngineImage:
    """As find_image(), but it must be there: DockerError."""
    found = find_image(client, image)
    if found is None:
        raise DockerError(f"{image}: no such image on this engine; make it: toolchain image")
    return found


def image_manifest(image: str) -> Manifest:
    """The manifest of the bundle in `image`; DockerError when there is no such image or no bundle in it."""
    with closing(connect()) as client:
        (content,) = bundle_files(client, image, MANIFEST)
    return manifest_from(content, image)


def manifest_from(content: bytes, image: str) -> Manifest:
    return decode_record(content, Manifest, f"{image}:/bundle/{MANIFEST}", FORMAT)


def bundle_files(client: DockerClient, image: str, *names: str) -> list[bytes]:
    """Files of the bundle in `image`, read without running it."""
    try:
        created = client.containers.create(image)
    except docker.errors.ImageNotFound as error:
        raise DockerError(f"{image}: no such image on this engine; make it: toolchain image") from error
    except docker.errors.APIError as error:
        raise explained(error, image) from error
    try:
        return [_file_in(created, name) for name in names]
    except docker.errors.NotFound as error:
        raise DockerError(f"{image} holds no /bundle: `toolchain image` did not make it") from error
    finally:
        created.remove(force=True)


def _file_in(container: Container, name: str) -> bytes:
    stream, _ = container.get_archive(f"/bundle/{name}")
    with tarfile.open(fileobj=io.BytesIO(b"".join(stream))) as archive:
        return content_of(archive, name)


def app_files() -> Iterator[Path]:
    """Every file of ours that goes into the image, relative to the repository's root."""
    for name in APP:
        path = ROOT / name
        files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.suffix in SUFFIXES)
        yield from (file.relative_to(ROOT) for file in files)


def lay_out(context: Path, bundle: Bundle, wheels: Path, kind: Kind) -> None:
    """Fill the build's context as the Dockerfiles expect it; modes and times are the same on every machine."""
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


def _digest_of_inputs(bundle: Bundle, base_id: str, kind: Kind) -> str:
    files = [
        kind.dockerfile,
        *kind.locks,
        *kind.sources,
        INSTALLER_LOCK,
        ROOT / "deploy/images/install.py",
        ROOT / "deploy/docker/labels.py",
    ]
    running = sha256(f"{bundle.digest} {base_id}".encode())
    for file in (*files, *(ROOT / name for name in app_files())):
        running.update(f"{file.relative_to(ROOT)} ".encode() + sha256(file.read_bytes()).digest())
    return running.hexdigest()


def _build(context: Path, tag: str, base: str, fresh: bool, labels: dict[str, str]) -> None:
    command, environment = builder()
    said = [f"--label={name}={value}" for name, value in sorted(labels.items())]
    asked = [f"--build-arg=BASE={base}", "--network=none", *TIMELESS, *(["--no-cache"] if fresh else [])]
    done = subprocess.run(
        [*command, *asked, f"--tag={tag}", *said, os.fspath(context)],
        capture_output=True, text=True, env=environment, check=False,
    )  # fmt: skip
    if done.returncode:
        raise explained(_reason(done.stderr), f"{tag}: the build failed")


def _revision() -> str:
    """The commit of this checkout, with `-dirty` when it was changed since; "" where there is no git."""
    try:
        asked = ["git", "-C", str(ROOT), "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
        return subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def _reason(log: str) -> str:
    """The last words of what ran (`#6 1.25 …`), else BuildKit's own."""
    said = re.findall(r"^#\d+ \d+\.\d+ (.+)$", log, re.MULTILINE)
    return " ".join(said[-2:] or log.splitlines()[-2:])

"""The base of every image: Python 3.11 on Debian 12, without a shell, pip or a package manager.

Built once and kept under a local tag that is the digest of its build instructions: from the pinned official image where
a registry can be reached, otherwise from Debian's packages with mmdebstrap. Knows neither models nor wheels.
"""

import logging
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from shutil import which

import docker.errors
from docker import DockerClient

from deploy.docker.engine import explain_error, find_builder, is_podman
from deploy.images.content import read_content
from deploy.images.timestamps import EPOCH, strip_build_times
from toolchain.errors import DockerError

logger = logging.getLogger(__name__)


REPOSITORY = "edge-toolchain-base"
# The digest fixes the content wherever it is pulled from; if no registry has it any more, Debian's packages are used.
NAME = "python:3.11-slim-bookworm"
PINNED = f"{NAME}@sha256:a36c24f9cbdf4fd0f52d67f0823eeac19c2028c637cecc392d97f980d4fec56b"
PACKAGES = ("python3.11-minimal", "libpython3.11-stdlib", "libstdc++6", "libgcc-s1", "base-files", "netbase")
SUITE = "bookworm"
COMPILE = "python3 -m compileall -q --invalidation-mode unchecked-hash"

# The official image without what a server never runs, flattened to one layer: deleting in a later layer frees nothing.
OFFICIAL = f"""\
ARG PINNED
FROM $PINNED AS whole
RUN cd /usr/local/lib/python3.11 \\
 && rm -rf ensurepip idlelib lib2to3 tkinter turtledemo test pydoc_data config-3.11-* site-packages/* \\
 && {COMPILE} /usr/local/lib/python3.11 \\
 && rm -rf /usr/local/include /usr/local/lib/pkgconfig /usr/share/doc /usr/share/man /usr/share/locale \\
    /usr/share/info /usr/share/perl* /usr/lib/*/perl* /usr/bin/perl* /usr/lib/*/gconv /usr/lib/apt \\
    /usr/bin/apt* /usr/bin/dpkg* /var/lib/apt /var/cache/* /var/log/* /root/.cache /tmp/*
FROM scratch
COPY --from=whole / /
ENV PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8
"""
# Debian's packages are unpacked, not installed: no shell, no package manager. $1 is the new root. status.d lists them,
# one file each, where image scanners look.
DEBIAN_HOOK = f"""\
set -eu
mkdir -p "$1/var/lib/dpkg/status.d"
for package in "$1"/var/cache/apt/archives/*.deb; do
    dpkg-deb -f "$package" > "$1/var/lib/dpkg/status.d/$(dpkg-deb -f "$package" Package)"
done
ln -s python3.11 "$1/usr/bin/python3"
cd "$1/usr"
rm -rf share/doc share/man share/info share/locale share/lintian share/bug share/gcc share/gdb share/polkit-1 share/dpkg
rm -rf bin/dpkg* bin/tar bin/mawk bin/update-alternatives lib/dpkg lib/systemd libexec/dpkg sbin/*
cd lib/x86_64-linux-gnu
rm -rf gconv perl* libdb-5.3.so engines-3
cd ../python3.11
rm -rf ensurepip idlelib lib2to3 tkinter turtledemo test pydoc_data
chroot "$1" {COMPILE} /usr/lib/python3.11 >&2
rm -rf "$1/etc/cron.daily" "$1/etc/dpkg"
"""


@dataclass(frozen=True)
class BaseImage:
    """tag: what to build on; digest: of its configuration; source: what it was built from, in words."""

    tag: str
    digest: str
    source: str


def base_image(client: DockerClient) -> BaseImage:
    """The base image, built now if this engine does not have it; DockerError when neither way works."""
    official = f"{REPOSITORY}:{_digest(PINNED, OFFICIAL)}"
    debian = f"{REPOSITORY}:{_digest(*PACKAGES, SUITE, DEBIAN_HOOK)}"
    base = _find_base(client, official, NAME) or _find_base(client, debian, f"Debian {SUITE} packages")
    if base:
        return base
    if _pull_official(client):
        build_from_official(client, official, PINNED)
        return _find_base(client, official, NAME) or _raise_missing(official)
    build_from_debian(client, debian)
    return _find_base(client, debian, f"Debian {SUITE} packages") or _raise_missing(debian)


def build_from_official(client: DockerClient, tag: str, image: str) -> None:
    """Build `tag` as a slimmed copy of `image`, which this engine has."""
    command, environment = find_builder(is_podman(client))
    done = subprocess.run(
        [*command, "--build-arg", f"PINNED={image}", "--network=none", f"--tag={tag}", "-"],
        input=OFFICIAL, capture_output=True, text=True, env=environment, check=False,
    )  # fmt: skip
    if done.returncode:
        raise explain_error(" ".join(done.stderr.splitlines()[-3:]), f"the base image could not be built from {image}")


def build_from_debian(client: DockerClient, tag: str) -> None:
    """Build `tag` from Debian's packages, in about half a minute."""
    if not which("mmdebstrap"):
        raise DockerError(
            "no registry can be reached, and mmdebstrap, which builds a base image from Debian's packages, is missing; "
            "install it as root: apt-get install mmdebstrap debian-archive-keyring uidmap"
        )
    logger.info(f"base image: building it from Debian {SUITE} packages (about half a minute)")
    with tempfile.TemporaryDirectory(prefix="edge-base-") as temporary:
        archive, hook = Path(temporary) / "base.tar", Path(temporary) / "hook"
        hook.write_text(f"#!/bin/sh\n{DEBIAN_HOOK}")
        for path in (Path(temporary), hook):  # if not root, mmdebstrap runs as a subordinate user
            path.chmod(0o755)
        _debootstrap(archive, hook)
        repository, _, name = tag.partition(":")
        changes = ["ENV PATH=/usr/local/bin:/usr/bin:/bin", "ENV LANG=C.UTF-8"]
        try:
            client.api.import_image_from_file(str(archive), repository=repository, tag=name, changes=changes)
        except docker.errors.APIError as error:
            raise explain_error(error, "the base image could not be imported") from error


def _debootstrap(archive: Path, hook: Path) -> None:
    merged = (
        ["--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr"] if Path("/usr/share/mmdebstrap/hooks").is_dir() else []
    )
    command = ["mmdebstrap", "--quiet", "--variant=extract", f"--include={','.join(PACKAGES)}", *merged]
    done = subprocess.run(
        [*command, f"--extract-hook={hook}", SUITE, str(archive)],
        capture_output=True, text=True, env={**os.environ, "SOURCE_DATE_EPOCH": "0"}, check=False,
    )  # fmt: skip
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith(("E:", "Err"))] or ["no reason given"]
        hint = "" if os.getuid() == 0 else "; you are not root: are you in /etc/subuid, and is uidmap installed?"
        raise explain_error(
            " ".join(errors[-2:]), f"mmdebstrap could not build the base image (is Debian's archive reachable?{hint})"
        )


def _pull_official(client: DockerClient) -> bool:
    """Whether this engine has the official image now; a registry that does not answer is not an error."""
    logger.info(f"base image: pulling {NAME}")
    try:
        client.images.pull(PINNED)
    except (docker.errors.APIError, OSError) as error:
        reason = str(getattr(error, "explanation", None) or error).split()
        logger.info(f"base image: no registry provides it ({' '.join(reason)[:160]})")
        return False
    return True


def _find_base(client: DockerClient, tag: str, source: str) -> BaseImage | None:
    try:
        image = client.images.get(tag)
    except docker.errors.ImageNotFound:
        return None
    if image.attrs["Created"] != EPOCH:
        image = strip_build_times(client, image, tag)
    return BaseImage(tag, read_content(image).config, source)


def _raise_missing(tag: str) -> BaseImage:
    raise DockerError(f"{tag}: built, but the engine does not have it; try again")


def _digest(*parts: str) -> str:
    return sha256("\n".join((*parts, sys.platform)).encode()).hexdigest()[:12]

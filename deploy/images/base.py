"""The image that every image stands on: Python 3.11 on Debian 12, without a shell, pip or a package manager.

Made once and kept under a local tag that is the digest of how it is made: from the pinned official image where a
registry can be reached, else from Debian's own packages with mmdebstrap. Knows nothing of models or wheels.
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

from deploy.docker.engine import builder, explained
from deploy.images.timestamps import EPOCH, timeless
from toolchain.errors import DockerError

logger = logging.getLogger(__name__)


REPOSITORY = "edge-toolchain-base"
# A digest names one content wherever it is pulled from; when no registry has it any more, Debian's packages serve.
NAME = "python:3.11-slim-bookworm"
PINNED = f"{NAME}@sha256:a36c24f9cbdf4fd0f52d67f0823eeac19c2028c637cecc392d97f980d4fec56b"
PACKAGES = ("python3.11-minimal", "libpython3.11-stdlib", "libstdc++6", "libgcc-s1", "base-files", "netbase")
SUITE = "bookworm"
COMPILE = "python3 -m compileall -q --invalidation-mode unchecked-hash"

# The official image less what no server runs, as one layer: deleting in a layer above would free nothing.
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
# Debian's packages are unpacked, not installed: no shell, no package manager. $1 is the new root. What was unpacked is
# told in status.d, a file each, where scanners of images look.
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
class Base:
    """tag: what to build on; id: its digest here; source: how it was made, in words."""

    tag: str
    id: str
    source: str


def base_image(client: DockerClient) -> Base:
    """The base image, made now if it is not here yet; DockerError when neither way works."""
    official = f"{REPOSITORY}:{_digest(PINNED, OFFICIAL)}"
    debian = f"{REPOSITORY}:{_digest(*PACKAGES, SUITE, DEBIAN_HOOK)}"
    found = _found(client, official, NAME) or _found(client, debian, f"Debian {SUITE} packages")
    if found:
        return found
    if _pulled(client):
        from_official(official, PINNED)
        return _found(client, official, NAME) or _vanished(official)
    from_debian(client, debian)
    return _found(client, debian, f"Debian {SUITE} packages") or _vanished(debian)


def from_official(tag: str, image: str) -> None:
    """Slim `image`, which is on this engine, into `tag`."""
    command, environment = builder()
    done = subprocess.run(
        [*command, "--build-arg", f"PINNED={image}", "--network=none", f"--tag={tag}", "-"],
        input=OFFICIAL, capture_output=True, text=True, env=environment, check=False,
    )  # fmt: skip
    if done.returncode:
        raise explained(" ".join(done.stderr.splitlines()[-3:]), f"the base image could not be made from {image}")


def from_debian(client: DockerClient, tag: str) -> None:
    """Make `tag` from Debian's packages, in about half a minute."""
    if not which("mmdebstrap"):
        raise DockerError(
            "no registry can be reached, and mmdebstrap, which makes a base image from Debian's packages, is missing; "
            "install it as root: apt-get install mmdebstrap debian-archive-keyring uidmap"
        )
    logger.info(f"base image: making one from Debian {SUITE} packages (about half a minute)")
    with tempfile.TemporaryDirectory(prefix="edge-base-") as temporary:
        archive, hook = Path(temporary) / "base.tar", Path(temporary) / "hook"
        hook.write_text(f"#!/bin/sh\n{DEBIAN_HOOK}")
        for path in (Path(temporary), hook):  # for another user than root it runs as one of her subordinate users
            path.chmod(0o755)
        _debootstrap(archive, hook)
        repository, _, name = tag.partition(":")
        changes = ["ENV PATH=/usr/local/bin:/usr/bin:/bin", "ENV LANG=C.UTF-8"]
        try:
            client.api.import_image_from_file(str(archive), repository=repository, tag=name, changes=changes)
        except docker.errors.APIError as error:
            raise explained(error, "the base image could not be imported") from error


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
        hint = "" if os.getuid() == 0 else "; not being root, are you in /etc/subuid, with uidmap installed?"
        raise explained(
            " ".join(errors[-2:]), f"mmdebstrap could not make the base image (is Debian's archive reachable?{hint})"
        )


def _pulled(client: DockerClient) -> bool:
    """Whether the official image is on this engine now; a registry that does not answer is no error."""
    logger.info(f"base image: asking the registry for {NAME}")
    try:
        client.images.pull(PINNED)
    except (docker.errors.APIError, OSError) as error:
        reason = str(getattr(error, "explanation", None) or error).split()
        logger.info(f"base image: no registry has it for us ({' '.join(reason)[:160]})")
        return False
    return True


def _found(client: DockerClient, tag: str, source: str) -> Base | None:
    try:
        found = client.images.get(tag)
    except docker.errors.ImageNotFound:
        return None
    if found.attrs["Created"] != EPOCH:
        found = timeless(client, tag)
    return Base(tag, str(found.id), source)


def _vanished(tag: str) -> Base:
    raise DockerError(f"{tag}: made, but the engine does not have it; try again")


def _digest(*parts: str) -> str:
    return sha256("\n".join((*parts, sys.platform)).encode()).hexdigest()[:12]

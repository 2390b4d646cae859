"""What all workers use and only the first that needs it makes: bundles, images, the image's wheels."""

from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

from tests.names import WORKER

IMAGES = "images-to-remove"


def shared_folder(paths: pytest.TempPathFactory) -> Path:
    """The run's own folder, the same for all its workers."""
    return paths.getbasetemp().parent if WORKER else paths.getbasetemp()


def made_once(paths: pytest.TempPathFactory, name: str, make: Callable[[Path], str]) -> str:
    """What `make` returned to the first worker that asked for `name`; it gets a folder that stays. The others wait."""
    folder = shared_folder(paths) / name
    record = folder.with_suffix(".once")
    with FileLock(f"{record}.lock"):
        if not record.is_file():
            folder.mkdir(exist_ok=True)  # of a worker whose making failed
            record.write_text(make(folder))
        return record.read_text()


def remove_at_the_end(paths: pytest.TempPathFactory, tag: str) -> None:
    """Of the whole run, by its controller: an image that other workers may still need when this one ends."""
    with (shared_folder(paths) / IMAGES).open("a") as tags:
        tags.write(f"{tag}\n")


def remove_images(folder: Path) -> None:
    listed = folder / IMAGES
    if listed.is_file():
        import docker

        client = docker.from_env()
        for tag in listed.read_text().split():
            client.images.remove(tag, force=True)
        client.close()

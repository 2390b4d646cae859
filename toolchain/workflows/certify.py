"""Lets an image certify itself on this device; the certificate is cached per image and device."""

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from deploy.containers.commands import certify_image
from deploy.runtime.device.probe import fingerprint
from toolchain.job.stage import Stage
from toolchain.records.certificate import Certificate

if TYPE_CHECKING:
    from deploy.images.build import BuiltImage
    from toolchain.job.stage_cache import StageCache


def certify_on_device(cache: "StageCache", image: "BuiltImage", threads: int) -> Certificate:
    """The image checks and measures itself here and chooses its candidate."""

    def make(_: Path, __: Path) -> Certificate:
        return certify_image(image.tag)

    title = "certificate: the container checks itself"
    return cache.run(Stage("certificate", title, Certificate, device_inputs(image, threads), make)).record


def device_inputs(image: "BuiltImage", threads: int) -> dict[str, object]:
    """Everything that an image's figures depend on."""
    return {"image": image.id, "device": msgspec.to_builtins(fingerprint()), "threads": threads}

"""Is an image what its bundle and this checkout make? Built once more, with nothing kept, and compared by digest."""

import uuid
from contextlib import closing
from dataclasses import dataclass

from deploy.docker.engine import connect
from deploy.docker.labels import BUNDLE, EXTRAS
from deploy.images.build import build_image, image_here
from deploy.images.signatures import check_signature, signature_of
from toolchain.errors import DockerError, RecordError
from toolchain.records.bundle import Bundle


@dataclass(frozen=True)
class Rebuilt:
    """id, again: digests of the image and of what was built now; signed_by: the key, "" and `why_not` without one."""

    image: str
    id: str
    again: str
    same: bool
    signed_by: str
    why_not: str = ""


def rebuilt(tag: str, bundle: Bundle) -> Rebuilt:
    """DockerError: the image was made from another bundle."""
    with closing(connect()) as client:
        image = image_here(client, tag)
        if image.labels.get(BUNDLE) != bundle.digest:
            raise DockerError(f"{tag} was made from another bundle than {bundle.folder}; expected {bundle.digest[:12]}")
        key, why_not = "", ""
        try:
            key = check_signature(signature_of(str(image.id)), str(image.id), tag).key
        except RecordError as error:
            why_not = str(error)
        scratch = f"edge-verify:{uuid.uuid4().hex[:12]}"
        again = build_image(bundle, scratch, fresh=True, tracing=image.labels.get(EXTRAS) == "tracing")
        client.images.remove(scratch)
    return Rebuilt(tag, str(image.id), again.id, again.id == image.id, key, why_not)

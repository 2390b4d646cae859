"""Verifies that an image is what its bundle and this checkout build: rebuilds it without a cache, compares digests."""

import uuid
from contextlib import closing
from dataclasses import dataclass

from deploy.docker.engine import connect
from deploy.docker.labels import BUNDLE, EXTRAS, read_release_labels
from deploy.images.build import build_image, require_image
from deploy.images.content import read_content
from deploy.images.signatures import check_signature, read_signature
from toolchain.errors import DockerError, RecordError
from toolchain.records.bundle import Bundle


@dataclass(frozen=True)
class RebuildComparison:
    """id, again: digests of the configurations of the image and of its rebuild; signed_by: the key, or "" with the
    reason in `why_not`."""

    image: str
    id: str
    again: str
    same: bool
    signed_by: str
    why_not: str = ""


def rebuild_and_compare(tag: str, bundle: Bundle) -> RebuildComparison:
    """Rebuild `tag` from `bundle`; DockerError: the image was built from another bundle."""
    with closing(connect()) as client:
        image = require_image(client, tag)
        if image.labels.get(BUNDLE) != bundle.digest:
            raise DockerError(
                f"{tag} was built from another bundle than {bundle.folder}; expected {bundle.digest[:12]}"
            )
        key, why_not, content = "", "", read_content(image)
        try:
            labels = read_release_labels(image.labels, tag)
            key = check_signature(read_signature(content.config), content, labels, tag).key
        except RecordError as error:
            why_not = str(error)
        scratch = f"edge-verify:{uuid.uuid4().hex[:12]}"
        again = build_image(bundle, scratch, fresh=True, tracing=image.labels.get(EXTRAS) == "tracing")
        client.images.remove(scratch)
    return RebuildComparison(tag, content.config, again.id, again.id == content.config, key, why_not)

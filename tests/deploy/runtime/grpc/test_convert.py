"""gRPC messages as requests: what is refused before it is converted."""

from pathlib import Path

import pytest

from deploy.runtime.grpc.convert import request_from_message
from deploy.runtime.grpc.messages import message_classes
from deploy.runtime.protocol.shared_memory import refuse_region
from tests.bundles import null_bundle
from toolchain.errors import RequestError


def test_typed_contents_beyond_the_shape_are_refused_unconverted(tmp_path: Path) -> None:
    manifest = null_bundle(tmp_path / "null.bundle").manifest
    message = message_classes()["ModelInferRequest"](model_name="null")
    image = message.inputs.add(name="image", datatype="UINT8", shape=[1, 8, 8, 3])
    image.contents.uint_contents.extend([7] * 192)
    assert request_from_message(message, manifest, refuse_region, None).feeds["image"].shape == (1, 8, 8, 3)
    image.contents.uint_contents.append(7)
    with pytest.raises(RequestError, match=r"^input 'image': 193 numbers in contents, expected at most 192; send it "):
        request_from_message(message, manifest, refuse_region, None)

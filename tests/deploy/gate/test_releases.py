"""Names of images as engines list them, and as a person types them."""

import pytest

from deploy.gate.releases import is_name_of


@pytest.mark.parametrize(
    ("tag", "typed", "same"),
    [
        ("edge-net:1", "edge-net:1", True),
        ("edge-net:latest", "edge-net", True),
        ("docker.io/library/edge-net:1", "edge-net:1", True),  # Podman's, of what was built there
        ("localhost/edge-net:1", "edge-net:1", True),  # and of what was loaded
        ("localhost/edge-net:1", "localhost/edge-net:1", True),
        ("registry.example/edge-net:1", "edge-net:1", False),
        ("edge-net:1", "edge", False),
    ],
)
def test_a_name_is_an_images_however_its_engine_writes_it(tag: str, typed: str, same: bool) -> None:
    assert is_name_of(tag, typed) == same

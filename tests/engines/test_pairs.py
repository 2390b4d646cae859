"""A release between engines of other makers and image stores; `make bench-hardening ONLY=engines` has all pairs."""

import pytest

from benchmarks.hardening.engines import measure
from tests import edges
from tests.engines import systems

REASON = edges.why_not() or systems.why_not()
pytestmark = [pytest.mark.docker, pytest.mark.exhaustive, pytest.mark.skipif(bool(REASON), reason=REASON)]


@pytest.mark.timeout(3600)
def test_docker_s_two_image_stores_and_podman_build_serve_gate_and_ship_to_each_other() -> None:
    table = measure((systems.CONTAINERD_28, systems.CLASSIC_20, systems.PODMAN_5))
    assert table.failures() == []
    assert len(table.pairs) == 9
    assert "| Docker 28.5, containerd store | yes | yes | yes |" in table.markdown()

"""A release on an edge server whose inventory entry names a folder of secrets there."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from docker import DockerClient

from deploy.containers.client import served_model
from deploy.containers.credentials import Credentials
from deploy.containers.secrets import CERT, KEY, TOKENS
from deploy.images.build import build_image
from tests import edges
from tests.bundles import null_bundle
from tests.deploy.containers.secretfolders import TOKEN, Laid, laid, readable
from tests.edges import Edge
from tests.journeys.conftest import Toolchain, lend_wheelhouse
from tests.shipped import MODEL, inventory
from toolchain.errors import DeviceError

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.skipif(bool(edges.why_not()), reason=edges.why_not())]
TAGS = {release: f"edge-shipped:closed-{release}" for release in ("1", "2")}


@pytest.fixture
def edge(
    engine: DockerClient, tmp_path_factory: pytest.TempPathFactory, home: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Edge]:
    folder = tmp_path_factory.mktemp("rack")  # a socket's path may not be long
    with edges.edges(folder, 1, {}) as (made,):
        monkeypatch.setenv("PATH", f"{folder}/bin:{os.environ['PATH']}")
        monkeypatch.chdir(folder)
        lend_wheelhouse(home)
        for release, tag in TAGS.items():
            build_image(null_bundle(folder / release, release=release, name=MODEL), tag)
        yield made
    for tag in TAGS.values():
        engine.images.remove(tag, force=True)


@pytest.fixture
def secrets(tmp_path: Path) -> Laid:
    """Edge servers here have an address and an engine of their own, and this machine's files."""
    return readable(laid(tmp_path, CERT, KEY, TOKENS))


def test_a_release_is_shipped_closed_and_stays_so(toolchain: Toolchain, edge: Edge, secrets: Laid) -> None:
    url, stranger = f"https://{edge.address}:8080", Credentials(server_cert=secrets.folder / CERT)
    shown = Credentials(secrets.folder / TOKENS, server_cert=secrets.folder / CERT)
    closed = f"secrets = '{secrets.folder}'\nclosed_by = ['tls', 'tokens']"
    inventory([edge], closed)
    shipped = toolchain("ship", TAGS["1"], "--message=closed")
    assert [one["outcome"] for one in shipped.last["servers"]] == ["live"], shipped.err
    assert TOKEN not in shipped.out + shipped.err
    assert served_model(url, shown) == MODEL
    with pytest.raises(DeviceError, match=r"^GET /: 401 "):
        served_model(url, stranger)
    assert [one["outcome"] for one in toolchain("ship", TAGS["1"]).last["servers"]] == ["unchanged"]
    inventory([edge])
    refused = toolchain("ship", TAGS["1"])
    assert refused.code == 1
    assert "edge1: 1 runs there with other secrets than the inventory lists now, and running" in refused.err
    inventory([edge], closed)
    (next_one,) = toolchain("ship", TAGS["2"], "--skip-gate", "--reason=the gate is another journey's").last["servers"]
    assert (next_one["outcome"], next_one["live"]) == ("live", "2"), next_one
    assert served_model(url, shown) == MODEL

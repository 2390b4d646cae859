"""deploy/grafana/dashboard.json: every metric in it is one that a server tells, and Grafana can import it anywhere."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.runtime.device.energy import EnergyMeter, EnergyTotals
from deploy.runtime.http.access import AccessOptions, Secrets
from deploy.runtime.http.prometheus import metrics_text
from deploy.runtime.logs import Log
from deploy.runtime.security.tls import TlsFiles
from tests.bundles import null_bundle
from tests.deploy.runtime.security.authority import Authority
from tests.deploy.runtime.server import CAT, serving
from tests.house.tree import ROOT

BOARD: dict[str, Any] = json.loads((ROOT / "deploy/grafana/dashboard.json").read_text())
PANELS: list[dict[str, Any]] = [
    *BOARD["panels"],
    *(inner for row in BOARD["panels"] for inner in row.get("panels", [])),
]
VARIABLE = "${datasource}"
METRIC = re.compile(r"\b(?:edge|process)_[a-z_]+")


def expressions() -> list[str]:
    queries = [target["expr"] for panel in PANELS for target in panel.get("targets", [])]
    return queries + [one["definition"] for one in BOARD["templating"]["list"] if one["type"] == "query"]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """Names of samples that a certified server may tell, each with the labels that it was told with."""
    folder = tmp_path_factory.mktemp("grafana")
    (folder / "state").mkdir()
    certified = {"CERTIFY": "first", "CERTIFY_SECONDS": "0.1"}
    with serving(null_bundle(folder / "null.bundle").folder, "--state", folder / "state", **certified) as server:
        assert [server.infer(CAT)[0], server.infer()[0]] == [200, 400]
        text = server.ask("GET", "/metrics")[2].decode() + elsewhere(folder)
    kinds = dict(re.findall(r"^# TYPE (\w+) (\w+)$", text, re.MULTILINE))
    parts = {"histogram": ("_bucket", "_sum", "_count")}
    names: dict[str, set[str]] = {name + part: set() for name, kind in kinds.items() for part in parts.get(kind, ("",))}
    for name, labels in re.findall(r"^(\w+)\{(.*)\} \S+$", text, re.MULTILINE):
        names[name] |= set(re.findall(r'(\w+)="', labels))
    return names


def elsewhere(folder: Path) -> str:
    """What a server tells where energy can be read and TLS is on."""
    (package := folder / "intel-rapl:0").mkdir()
    for file in ("energy_uj", "max_energy_range_uj"):
        (package / file).write_text("1")
    issued = Authority(folder / "authority").issue("server")
    secrets = Secrets(AccessOptions(tls=TlsFiles(issued.cert, issued.key)), Log())
    totals = EnergyTotals(EnergyMeter(powercap=folder))
    return metrics_text([*totals.families(), *secrets.families()]).decode()


def test_every_metric_is_one_that_the_server_tells(told: dict[str, set[str]]) -> None:
    named = {name for expression in expressions() for name in METRIC.findall(expression)}
    assert len(named) > 15
    assert named - set(told) == set()


def test_every_label_is_one_that_the_metric_has(told: dict[str, set[str]]) -> None:
    """`instance` and `job` are Prometheus's own."""
    for expression in expressions():
        labels = {label for words in re.findall(r"by \(([\w, ]+)\)", expression) for label in words.split(", ")}
        labels |= set(re.findall(r"[{,] ?(\w+)=", expression))
        known = {label for name in METRIC.findall(expression) for label in told[name]}
        assert labels <= known | {"instance", "job"}, expression


def test_it_can_be_imported_anywhere() -> None:
    assert BOARD["schemaVersion"] >= 36, "older ones know a data source by its name, not by its uid"
    assert BOARD["id"] is None
    numbers = [panel["id"] for panel in PANELS]
    assert len(set(numbers)) == len(numbers)
    assert [one["type"] for one in BOARD["templating"]["list"] if one["name"] == "datasource"] == ["datasource"]
    assert {found["uid"] for found in data_sources(BOARD)} == {VARIABLE}


def data_sources(value: Any) -> Iterator[dict[str, Any]]:
    """Every reference to a data source, at any depth."""
    if isinstance(value, list):
        for inner in value:
            yield from data_sources(inner)
    elif isinstance(value, dict):
        if isinstance(value.get("datasource"), dict):
            yield value["datasource"]
        for inner in value.values():
            yield from data_sources(inner)


def test_every_panel_says_what_it_shows_and_lies_beside_the_others() -> None:
    places: set[tuple[int, int]] = set()
    for panel in PANELS:
        at = panel["gridPos"]
        covered = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not covered & places, panel["title"]
        assert at["x"] + at["w"] <= 24
        places |= covered
        assert panel["type"] == "row" or (panel["description"] and panel["targets"])


def test_every_query_is_of_the_servers_that_were_chosen() -> None:
    queries = [target["expr"] for panel in PANELS for target in panel.get("targets", [])]
    for query in queries:
        assert len(METRIC.findall(query)) == query.count('{instance=~"$instance"'), query


def test_nothing_of_one_place_is_in_it() -> None:
    assert not re.search(r"https?://|localhost|127\.0\.0\.1", (ROOT / "deploy/grafana/dashboard.json").read_text())

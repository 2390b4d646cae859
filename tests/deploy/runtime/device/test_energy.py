import re
from pathlib import Path

import pytest

from deploy.runtime.device.energy import EnergyMeter, EnergyTotals
from deploy.runtime.http.prometheus import metrics_text


def joules(totals: EnergyTotals) -> dict[str, float]:
    """By domain, as a scraper reads them."""
    text = metrics_text(totals.families()).decode()
    assert "# TYPE edge_energy_joules_total counter\n" in text
    samples = re.findall(r'^edge_energy_joules_total\{domain="(.+)",source="rapl"\} (\S+)$', text, re.MULTILINE)
    return {domain: float(value) for domain, value in samples}


def package(root: Path, number: int, microjoules: int) -> Path:
    folder = root / f"intel-rapl:{number}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "energy_uj").write_text(f"{microjoules}\n")
    (folder / "max_energy_range_uj").write_text("1000000\n")
    return folder


def test_the_packages_are_added_up_and_their_parts_are_not_counted_twice(tmp_path: Path) -> None:
    package(tmp_path, 0, 100_000)
    package(tmp_path, 1, 200_000)
    (tmp_path / "intel-rapl:0:0").mkdir()  # the cores of package 0
    meter = EnergyMeter(powercap=tmp_path)
    before = meter.read()
    package(tmp_path, 0, 350_000)
    package(tmp_path, 1, 300_000)
    assert meter.joules_since(before) == pytest.approx(0.35)
    assert meter.source == "RAPL, 2 package(s)"


def test_a_counter_that_began_again_is_read_right(tmp_path: Path) -> None:
    package(tmp_path, 0, 900_000)
    meter = EnergyMeter(powercap=tmp_path)
    before = meter.read()
    package(tmp_path, 0, 100_000)
    assert meter.joules_since(before) == pytest.approx(0.2)


def test_where_nothing_can_be_read_the_reason_is_told_and_nothing_estimated(tmp_path: Path) -> None:
    meter = EnergyMeter(powercap=tmp_path)
    assert meter.joules_since(meter.read()) is None
    assert meter.source.startswith("not readable here: no RAPL counters")
    (package(tmp_path, 0, 1) / "energy_uj").write_text("broken")
    assert "RAPL counters cannot be read" in EnergyMeter(powercap=tmp_path).source


def test_the_metrics_count_each_source_on_even_when_its_counter_begins_again(tmp_path: Path) -> None:
    package(tmp_path, 0, 900_000)
    (package(tmp_path, 1, 0) / "name").write_text("package-1\n")
    totals = EnergyTotals(EnergyMeter(powercap=tmp_path))
    package(tmp_path, 0, 100_000)
    assert joules(totals) == {"intel-rapl:0": pytest.approx(0.2), "package-1": 0.0}
    package(tmp_path, 0, 500_000)
    package(tmp_path, 1, 300_000)
    assert joules(totals) == {"intel-rapl:0": pytest.approx(0.6), "package-1": pytest.approx(0.3)}


def test_the_metrics_have_no_line_for_what_cannot_be_read(tmp_path: Path) -> None:
    assert list(EnergyTotals(EnergyMeter(powercap=tmp_path)).families()) == []
    folder = package(tmp_path, 0, 100_000)
    totals = EnergyTotals(EnergyMeter(powercap=tmp_path))
    (folder / "energy_uj").write_text("broken")
    assert list(totals.families()) == []
    package(tmp_path, 0, 400_000)
    assert joules(totals) == {"intel-rapl:0": pytest.approx(0.3)}


def test_the_whole_platform_is_not_added_to_its_packages(tmp_path: Path) -> None:
    package(tmp_path, 0, 100_000)
    (package(tmp_path, 1, 100_000) / "name").write_text("psys\n")
    assert [source.domain for source in EnergyMeter(powercap=tmp_path).sources] == ["intel-rapl:0"]

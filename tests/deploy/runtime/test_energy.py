from pathlib import Path

import pytest

from deploy.runtime.energy import Meter


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
    meter = Meter(powercap=tmp_path)
    before = meter.read()
    package(tmp_path, 0, 350_000)
    package(tmp_path, 1, 300_000)
    assert meter.joules(before) == pytest.approx(0.35)
    assert meter.source == "RAPL, 2 package(s)"


def test_a_counter_that_began_again_is_read_right(tmp_path: Path) -> None:
    package(tmp_path, 0, 900_000)
    meter = Meter(powercap=tmp_path)
    before = meter.read()
    package(tmp_path, 0, 100_000)
    assert meter.joules(before) == pytest.approx(0.2)


def test_where_nothing_can_be_read_the_reason_is_told_and_nothing_estimated(tmp_path: Path) -> None:
    meter = Meter(powercap=tmp_path)
    assert meter.joules(meter.read()) is None
    assert meter.source.startswith("not readable here: no RAPL counters")
    (package(tmp_path, 0, 1) / "energy_uj").write_text("broken")
    assert "RAPL counters cannot be read" in Meter(powercap=tmp_path).source

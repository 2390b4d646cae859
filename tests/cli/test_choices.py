"""The choices that flags offer are those of the tables behind them."""

from typing import get_args

from deploy.runtime.certification.bench import SCENARIOS
from toolchain.backends import TABLE
from toolchain.cli.choices import DataName, Scenarios, Source, Target
from toolchain.data.loading import MODULES, _import_module


def test_target_choices_are_the_back_ends() -> None:
    assert get_args(Target) == tuple(TABLE)


def test_data_set_and_source_choices_are_those_that_can_be_fetched() -> None:
    fetched = {name: tuple(_import_module(name).SOURCES) for name in MODULES if _import_module(name).SOURCES}
    assert set(get_args(DataName)) == set(fetched)
    assert set(get_args(Source)) == {"auto", *(source for sources in fetched.values() for source in sources)}


def test_scenario_choices_are_those_of_loadgen() -> None:
    assert set(get_args(get_args(Scenarios)[0])) == {*SCENARIOS, "all"}

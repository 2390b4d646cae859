import tomllib
from pathlib import Path

import tomli_w

from benchmarks.intake.recipe_mutations import RECIPE, mutated_recipe
from benchmarks.intake.recipe_runs import RunOutcome, faults_of
from benchmarks.intake.torchvision import KeptOutcome, goes_through, markdown
from benchmarks.intake.torchvision_net import NetOutcome
from toolchain.recipe import read_recipe


def test_the_recipe_that_is_mutated_is_valid_and_a_number_always_gives_the_same(tmp_path: Path) -> None:
    place = tmp_path / "x.toml"
    place.write_bytes(tomli_w.dumps(RECIPE).encode())
    assert read_recipe(place).name == RECIPE["name"]
    assert [mutated_recipe(number) for number in range(100)] == [mutated_recipe(number) for number in range(100)]
    assert tomllib.loads(place.read_text()) == RECIPE


def test_what_is_no_single_last_line_is_a_fault(tmp_path: Path) -> None:
    def faults(status: int, stderr: str) -> list[str]:
        return list(faults_of(RunOutcome(status, stderr, 0.0), tmp_path))

    assert faults(0, "data: folder\n") == faults(2, "data: folder\ntoolchain: x.toml: no\n") == []
    assert faults(1, "toolchain: a\nmore\n") and faults(1, "") and faults(139, "") and faults(0, "toolchain: a\n")
    assert faults(1, "Traceback (most recent call last)\ntoolchain: a\n")
    assert faults(1, "toolchain: KeyError: this is a fault of the toolchain\n")
    (tmp_path / ".half.x").touch()
    assert faults(0, "") == ["left behind: .half.x"]


def test_a_network_goes_through_what_it_passed_and_the_table_says_so() -> None:
    whole = KeptOutcome("code", NetOutcome("a", "net", 64, (10, 5)))
    refused = KeptOutcome("code", NetOutcome("b", "net", 64, (10, 8), {"tensorrt": "no plug-in"}))
    crashed = KeptOutcome("code", NetOutcome("c", "other", 0), "killed")
    assert [goes_through(one, "openvino") for one in (whole, refused, crashed)] == [True, True, False]
    assert [goes_through(one, "tensorrt") for one in (whole, refused, crashed)] == [True, False, False]
    text = markdown([whole, refused, crashed])
    assert "| net | `a`, `b` | 2 of 2 | 1 of 2 | 50% to 80% |" in text
    assert "- `b`: tensorrt: no plug-in\n- `c`: crash: killed\n" in text

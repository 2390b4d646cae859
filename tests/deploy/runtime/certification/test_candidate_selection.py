from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from deploy.runtime.certification.candidate_selection import (
    DeviceChoice,
    fastest,
    is_clearly_faster,
    select_candidate,
)
from deploy.runtime.certification.offered import meets_accuracy_threshold
from tests.bundles import null_bundle
from toolchain.records.bundle import SAMPLE
from toolchain.records.manifest import Accuracy


def decided(folder: Path, **changes: Any) -> DeviceChoice:
    changes = {"delay_ms": 4, "int8_ms": 1, "choose": "device", **changes}
    return select_candidate(null_bundle(folder, **changes), 1, lambda _: None)


def test_the_fastest_here_serves_though_the_build_chose_another(tmp_path: Path) -> None:
    found = decided(tmp_path / "b")
    assert (found.precision, found.chosen_by) == ("int8", "device")
    fp32, int8 = found.candidates
    assert fp32.latency_ms is not None
    assert int8.latency_ms is not None
    assert int8.latency_ms < fp32.latency_ms
    assert (int8.accuracy, int8.verdict) == (1.0, "serves: faster here than the build's choice, fp32")


def test_a_recipe_may_pin_what_the_build_chose(tmp_path: Path) -> None:
    assert decided(tmp_path / "b", choose="build") == DeviceChoice("fp32", "build")


def test_what_was_below_the_floor_where_it_was_built_is_not_tried(tmp_path: Path) -> None:
    below = decided(tmp_path / "b", accuracy=Accuracy("test", 12, 1.0, 1.0, 1.5))
    assert below == DeviceChoice("fp32", "build")


@pytest.mark.parametrize(
    ("there", "here"),
    [
        (
            "cannot run here: model.xml is to run in bf16; this CPU (Old) lacks avx512_bf16; serve fp32 or int8 here",
            "could not run: model.xml is to run in bf16; its CPU (Old) lacks avx512_bf16",
        ),
        ("loses 0.52 points, at most 0.30 allowed", "loses 0.52 points, at most 0.30 allowed"),
        (
            "refused: answers otherwise than the model, see parity",
            "refused: answers otherwise than the model, see parity",
        ),
        ("", "below the accuracy threshold"),
    ],
)
def test_what_is_not_tried_has_the_build_machines_reason_and_no_other(tmp_path: Path, there: str, here: str) -> None:
    bundle = null_bundle(tmp_path / "b", delay_ms=1, int8_ms=1, choose="device")
    fp32, int8 = bundle.manifest.candidates
    other = msgspec.structs.replace(int8, precision="bf16", accuracy=None, latency_ms=None, verdict=there)
    manifest = msgspec.structs.replace(bundle.manifest, candidates=(fp32, other, int8))
    tried = select_candidate(msgspec.structs.replace(bundle, manifest=manifest), 1, lambda _: None).candidates[1]
    assert (tried.latency_ms, tried.accuracy) == (None, None)
    assert tried.verdict == f"not tried; on the build machine: {here}"


def test_a_candidate_exactly_at_the_threshold_is_offered_as_the_build_accepted_it(tmp_path: Path) -> None:
    floor = 0.9205 - 0.3 / 100
    manifest = null_bundle(tmp_path / "b", accuracy=Accuracy("test", 12, 0.9205, 0.9205, floor)).manifest
    at = msgspec.structs.replace(manifest.serving, precision="int8", accuracy=0.9175)
    below = msgspec.structs.replace(at, accuracy=0.9174)
    assert [meets_accuracy_threshold(manifest, each) for each in (at, below)] == [True, False]


def test_a_candidate_that_answers_wrongly_here_does_not_serve(tmp_path: Path) -> None:
    bundle = null_bundle(tmp_path / "b", delay_ms=2, int8_ms=0.5, choose="device")
    sample = bundle.read_arrays(SAMPLE)
    np.savez(bundle.path(SAMPLE), allow_pickle=False, **(sample | {"outputs_int8": sample["outputs_int8"] + 1}))
    found = select_candidate(bundle, 1, lambda _: None)
    assert (found.precision, found.chosen_by) == ("fp32", "device")
    assert found.candidates[1].verdict.startswith("refused: golden distance: 1 of the largest answer")


def test_the_builds_choice_stays_unless_another_is_clearly_faster() -> None:
    assert fastest({"fp32": [1.0] * 12, "int8": [0.98] * 12}, "fp32") == "fp32"
    assert fastest({"fp32": [1.0] * 12, "int8": [0.9] * 12, "bf16": [0.8] * 12}, "fp32") == "bf16"
    assert fastest({"int8": [0.9] * 12, "bf16": [0.8] * 12}, "fp32") == "bf16"
    assert fastest({}, "fp32") == "fp32"


@pytest.mark.parametrize(("won", "clearly"), [(12, True), (10, True), (9, False)])
def test_clearly_faster_is_in_nearly_every_round(won: int, clearly: bool) -> None:
    assert is_clearly_faster([0.9] * won + [1.1] * (12 - won), [1.0] * 12) is clearly

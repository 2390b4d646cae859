from typing import Any

import msgspec
import pytest

from deploy.gate.comparability import ALLOWABLE, MUST_MATCH, check_allowed_differences, mismatches
from toolchain.errors import UsageError
from toolchain.records.fingerprint import Fingerprint

DEVICE = Fingerprint("x86_64", "Xeon", ("avx2",), 8, 8, None, "performance", "6.1", False, 1 << 34, None)


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("cpu_model", "EPYC", "CPU: Xeon against EPYC"),
        ("cpu_isa", ("avx2", "amx_int8"), "CPU features: avx2 against avx2 amx_int8"),
        ("cpus_allowed", 4, "number of usable CPUs: 8 against 4"),
        ("cpu_quota", 2.0, "CPU quota: unknown against 2.0"),
        ("governor", "powersave", "frequency governor: performance against powersave"),
        ("kernel", "6.2", "kernel: 6.1 against 6.2"),
        ("gpu_driver", "550.54", "GPU driver: unknown against 550.54"),
    ],
)
def test_a_different_property_is_one_sentence_and_can_be_allowed(field: str, value: Any, sentence: str) -> None:
    other = msgspec.structs.replace(DEVICE, **{field: value})
    assert list(mismatches(DEVICE, other)) == [sentence]
    assert list(mismatches(DEVICE, other, allowed=(field,))) == []
    assert list(mismatches(DEVICE, DEVICE)) == []


def test_every_device_property_is_in_the_table_or_left_out_on_purpose() -> None:
    assert set(Fingerprint.__struct_fields__) - set(MUST_MATCH) == {"memory_limit_bytes"}


def test_a_different_engine_is_reported_with_the_flag_that_allows_it() -> None:
    (sentence,) = mismatches(DEVICE, DEVICE, ("OpenVINO 2", "OpenVINO 1"))
    assert sentence == "engine: OpenVINO 2 against OpenVINO 1; to compare them anyway: --allow-difference=engine"
    assert not list(mismatches(DEVICE, DEVICE, ("2", "1"), ("engine",)))


def test_an_unknown_device_property_is_refused() -> None:
    assert check_allowed_differences(["engine", "kernel"]) == ("engine", "kernel")
    with pytest.raises(UsageError, match="--allow-difference=moon: expected some of architecture, "):
        check_allowed_differences(["moon"])
    assert "engine" in ALLOWABLE

"""First starts of the classic flavour, with a builder that is played: what is kept, and when it is built again."""

import json
from pathlib import Path

import pytest

from deploy.runtime.engines import tensorrt_classic
from deploy.runtime.engines.compile_cache import CompileCache
from deploy.runtime.engines.tensorrt_classic import convolution_types, load_or_build_plan, refuse_float_convolutions
from deploy.runtime.engines.tensorrt_plan import TensorRtPlan
from tests.deploy.runtime.engines.faketensorrt import fake_library
from toolchain.errors import DeviceError
from toolchain.records.tensorrt_layers import PlanSpec

ORDER = PlanSpec("int8", (1, 8), {"conv1": 100, "conv2": 50}, ("conv2",))
SPEEDS = {b"plan 1": 0.5, b"plan 2": 0.3, b"plan 3": 0.4}


class Builder:
    """timings: the timing cache that each build was given."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, device: tuple[str, str] = ("NVIDIA RTX A6000", "580.1")
    ) -> None:
        self.timings: list[bytes] = []
        monkeypatch.setattr(tensorrt_classic, "build_plan", self.build)
        monkeypatch.setattr(tensorrt_classic, "gpu_and_driver", lambda: device)

    def build(self, _found: object, onnx: bytes, batches: object, _gpus: object, timings: bytes) -> TensorRtPlan:
        assert (onnx, batches) == (b"graph", (1, 8))
        self.timings.append(timings)
        return TensorRtPlan(f"plan {len(self.timings)}".encode(), (), 60.0, f"timings {len(self.timings)}".encode())


def asked(tmp_path: Path) -> bytes:
    return load_or_build_plan(
        fake_library("classic"), b"graph", ORDER, CompileCache(tmp_path / "cache"), SPEEDS.__getitem__
    )


def test_several_plans_are_built_and_the_fastest_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    builder = Builder(monkeypatch)
    assert asked(tmp_path) == b"plan 2"
    assert builder.timings == [b"", b"", b""]
    assert asked(tmp_path) == b"plan 2"
    assert len(builder.timings) == 3
    assert "int8: plan 2 of 3: 0.300 ms, built in 60 s" in capfd.readouterr().err


def test_another_driver_builds_again_and_a_broken_plan_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLAN_BUILDS", "1")
    first = Builder(monkeypatch)
    asked(tmp_path)
    second = Builder(monkeypatch, ("NVIDIA RTX A6000", "590.2"))
    asked(tmp_path)
    assert (len(first.timings), len(second.timings)) == (1, 1)
    for plan in (tmp_path / "cache").glob("*.plan"):
        plan.write_bytes(b"torn")
    third = Builder(monkeypatch)
    asked(tmp_path)
    assert third.timings == [b"timings 1"]  # what the first build measured serves the next


def test_how_many_builds_is_a_number_from_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Builder(monkeypatch)
    monkeypatch.setenv("PLAN_BUILDS", "none")
    with pytest.raises(DeviceError, match="PLAN_BUILDS=none in the environment: expected how many plans to build"):
        asked(tmp_path)


def layer(node: str, kind: str, count: int) -> dict[str, object]:
    return {
        "Name": node,
        "Metadata": f"[ONNX Layer: {node}]\x1f[ONNX Layer: relu]",
        "Weights": {"Type": kind, "Count": count},
    }


def test_int8_that_a_device_computes_in_float_is_refused_by_name() -> None:
    told = json.dumps({"Layers": [layer("conv1", "Half", 100), layer("conv2", "Half", 50), "a name alone"]})
    assert convolution_types(told, ORDER.convolutions) == {"conv1": "Half", "conv2": "Half"}
    with pytest.raises(DeviceError, match=r"computes 1 convolutions in float here: conv1 \(Half\)"):
        refuse_float_convolutions(told, ORDER)
    refuse_float_convolutions(json.dumps({"Layers": [layer("conv1", "Int8", 100), layer("conv2", "FP16", 50)]}), ORDER)
    refuse_float_convolutions(json.dumps({"Layers": [layer("conv1", "Half", 10), layer("other", "Half", 999)]}), ORDER)

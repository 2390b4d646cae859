"""Every engine of the table against one contract: threads, batches, read-only feeds, closing, what cannot run here."""

import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from queue import SimpleQueue

import msgspec
import numpy as np
import pytest

from deploy.runtime.engines import TABLE, AsyncEngine, Settings, open_engine, serving_engine
from deploy.runtime.engines.openvino import OpenVinoEngine, split_batch
from tests.backends.tiny import CLASSES, SHAPE, tiny_images, tiny_onnx
from tests.bundles import null_bundle
from toolchain.backends import Calibration, backend
from toolchain.errors import DeviceError
from toolchain.records.manifest import Candidate

COUNT = 12
ELSEWHERE = pytest.mark.skip(reason="no device here that it builds for; engines/test_tensorrt.py plays one")


def here_or_not(name: str) -> object:
    shown = backend(name).stand_in(Candidate("fp32", name, (), 0))
    return pytest.param(name, marks=ELSEWHERE) if shown else name


@pytest.fixture(params=map(here_or_not, TABLE))
def made(request, tmp_path) -> tuple[Path, Candidate]:
    """A folder and the fp32 candidate in it, one for each engine."""
    folder = tmp_path / "made"
    return folder, backend(request.param).build(tiny_onnx(tmp_path / "in.onnx"), folder, "fp32", None)


@pytest.mark.parametrize("hint", ["latency", "throughput"])
def test_many_threads_get_the_answers_of_one(made, hint):
    images = tiny_images(COUNT)
    with open_engine(made[0], made[1], Settings(threads=2, hint=hint)) as engine, ThreadPoolExecutor(4) as pool:
        assert engine.requests >= 1
        batch = engine.infer({"image": images})["logits"]
        rows = range(COUNT)
        alone = list(pool.map(lambda row: engine.infer({"image": images[row : row + 1]})["logits"], list(rows) * 4))
    for row, answer in zip(list(rows) * 4, alone, strict=True):
        np.testing.assert_allclose(answer, batch[row : row + 1], rtol=1e-4, atol=1e-4)


def test_an_answer_is_the_callers_own(made):
    with open_engine(made[0], made[1], Settings(threads=1)) as engine:
        first = engine.infer({"image": tiny_images(1, seed=1)})["logits"]
        kept = first.copy()
        engine.infer({"image": tiny_images(1, seed=9)})
        np.testing.assert_array_equal(first, kept)


@pytest.mark.parametrize("count", [1, 3])
def test_read_only_unaligned_and_strided_pictures_are_taken_as_they_are(made, count):
    images = tiny_images(count)
    unaligned = np.frombuffer(b"x" + images.tobytes(), np.uint8, offset=1).reshape(images.shape)
    strided = np.ascontiguousarray(images[:, :, ::-1])[:, :, ::-1]
    with open_engine(made[0], made[1], Settings(threads=1)) as engine:
        expected = engine.infer({"image": images})["logits"]
        for feed in (unaligned, strided):
            np.testing.assert_array_equal(engine.infer({"image": feed})["logits"], expected)


def test_changing_batch_sizes_never_mix(made):
    images = tiny_images(COUNT)
    with open_engine(made[0], made[1], Settings(threads=1)) as engine:
        whole = engine.infer({"image": images})["logits"]
        for count in (1, 5, 2, 1, COUNT, 3, 1):
            found = engine.infer({"image": images[:count]})["logits"]
            assert found.shape == (count, CLASSES)
            np.testing.assert_allclose(found, whole[:count], rtol=1e-4, atol=1e-4)


def test_an_engine_that_calls_back_gives_the_answers_that_it_gives_when_waited_for(tmp_path):
    candidate = backend("openvino").build(tiny_onnx(tmp_path / "in.onnx"), tmp_path, "fp32", None)
    images = tiny_images(COUNT)
    with open_engine(tmp_path, candidate, Settings(threads=2, hint="throughput")) as engine:
        assert isinstance(engine, AsyncEngine)
        slots, found = threading.Semaphore(engine.requests), SimpleQueue()
        batches = [images[:1], images[:5], images[3:4], images[:8], images] * 8  # one form, pieces, a form not made yet
        for number, batch in enumerate(batches):
            slots.acquire()
            if number % 7 == 0:  # asked both ways in turn, a slot is a slot
                found.put((number, engine.infer({"image": batch})))
                slots.release()
                continue
            engine.start({"image": batch}, partial(lambda at, one: (found.put((at, one)), slots.release()), number))
        for _ in batches:
            number, answer = found.get(timeout=30)
            expected = engine.infer({"image": batches[number]})["logits"]
            np.testing.assert_allclose(answer["logits"], expected, rtol=1e-4, atol=1e-4)
    engine.start({"image": images[:1]}, found.put)
    assert "the engine is closed" in str(found.get(timeout=30))


def test_the_version_names_engine_and_release(made):
    with open_engine(made[0], made[1], Settings(threads=1)) as engine:
        name, number = engine.version.split(" ")
    assert name == made[1].backend
    assert number[0].isdigit()
    assert "-" not in number


@pytest.mark.parametrize("name", ["openvino", "onnxruntime"])
def test_a_broken_model_file_is_refused_in_one_line(name, tmp_path):
    candidate = backend(name).build(tiny_onnx(tmp_path / "in.onnx"), tmp_path, "fp32", None)
    (tmp_path / candidate.files[0]).write_text("not a model")
    with pytest.raises(DeviceError, match=f"{candidate.files[0]}: .* cannot run it") as caught:
        open_engine(tmp_path, candidate, Settings(threads=1))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["openvino", "onnxruntime"])
def test_a_closed_engine_says_so(name, tmp_path):
    candidate = backend(name).build(tiny_onnx(tmp_path / "in.onnx"), tmp_path, "fp32", None)
    with open_engine(tmp_path, candidate, Settings(threads=1)) as engine:
        pass
    for _ in range(2):
        with pytest.raises(DeviceError, match="the engine is closed"):
            engine.infer({"image": tiny_images(1)})


def test_an_engine_that_the_container_lacks_is_answered_with_those_it_has(tmp_path):
    with pytest.raises(DeviceError, match="no engine 'tensorflow' in this container; it has: openvino, "):
        open_engine(tmp_path, Candidate("fp32", "tensorflow", ("model.plan",), 0), Settings(threads=1))


def test_a_precision_that_openvino_does_not_know_is_refused(tmp_path):
    candidate = backend("openvino").build(tiny_onnx(tmp_path / "in.onnx"), tmp_path, "fp32", None)
    with pytest.raises(DeviceError, match=r"engine openvino runs fp32, fp16, bf16, int8, .*; not int8d"):
        open_engine(tmp_path, msgspec.structs.replace(candidate, precision="int8d"), Settings(threads=1))


def test_bf16_is_refused_where_the_cpu_would_compute_something_else(tmp_path, monkeypatch):
    """512-bit fp32 instructions are not enough either: OpenVINO plays bf16 by them, three times slower than fp32."""
    monkeypatch.setattr("deploy.runtime.engines.openvino.cpu_isa", lambda: ("avx2", "avx512f", "avx512_vnni"))
    monkeypatch.setattr("deploy.runtime.engines.openvino.cpu_model", lambda: "Xeon")
    candidate = backend("openvino").build(tiny_onnx(tmp_path / "in.onnx"), tmp_path, "bf16", None)
    refusal = r"^model\.xml is to run in bf16; this CPU \(Xeon\) lacks avx512_bf16; serve fp32 or int8 here$"
    with pytest.raises(DeviceError, match=refusal):
        open_engine(tmp_path, candidate, Settings(threads=1))


@pytest.mark.parametrize("damage", [lambda content: b"x" + content, lambda content: content[:-20]])
def test_a_broken_packed_file_is_refused_in_one_line(damage, tmp_path):
    candidate = backend("openvino").build(tiny_onnx(tmp_path / "in.onnx"), tmp_path, "int4w", None)
    file = tmp_path / candidate.files[0]
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(DeviceError, match=r"^model-int4w\.packed: .*; build it again$"):
        open_engine(tmp_path, candidate, Settings(threads=1))


def test_weights_that_are_stored_at_few_bits_are_computed_in_float(tmp_path):
    candidate = backend("openvino").build(tiny_onnx(tmp_path / "in.onnx"), tmp_path, "int4w", None)
    with open_engine(tmp_path, candidate, Settings(threads=1)) as engine:
        nodes = [node.get_rt_info() for node in vars(engine)["_compiled_models"][1].get_runtime_model().get_ops()]
    kinds = {node["layerType"].astype(str): node["runtimePrecision"].astype(str) for node in nodes}
    assert kinds["Convolution"] == "f32"


def test_a_model_of_fixed_batch_keeps_it(tmp_path):
    candidate = backend("openvino").build(tiny_onnx(tmp_path / "in.onnx", batch=2), tmp_path, "fp32", None)
    with open_engine(tmp_path, candidate, Settings(threads=1)) as engine:
        assert engine.inputs[0].shape == (2, *SHAPE)
        assert engine.infer({"image": tiny_images(2)})["logits"].shape == (2, CLASSES)


def test_what_openvino_compiles_is_kept_in_the_cache_folder(tmp_path):
    candidate = backend("openvino").build(tiny_onnx(tmp_path / "in.onnx"), tmp_path, "fp32", None)
    cache = tmp_path / "cache"
    for _ in range(2):
        with open_engine(tmp_path, candidate, Settings(threads=1, cache=cache)) as engine:
            answer = engine.infer({"image": tiny_images(1)})["logits"]
            assert answer.shape == (1, CLASSES)
    assert list(cache.glob("*.blob"))


def test_larger_forms_are_compiled_only_when_they_are_needed(tmp_path):
    candidate = backend("openvino").build(tiny_onnx(tmp_path / "in.onnx"), tmp_path, "fp32", None)
    with open_engine(tmp_path, candidate, Settings(threads=1)) as engine:
        assert isinstance(engine, OpenVinoEngine)
        engine.infer({"image": tiny_images(1)})
        engine.infer({"image": tiny_images(7)})
        assert list(engine._compiled_models) == [1]
        engine.infer({"image": tiny_images(8)})
        assert list(engine._compiled_models) == [1, 8]


def test_a_batch_is_answered_by_the_largest_forms_that_fit():
    assert list(split_batch(45)) == [(0, 32), (32, 8), (40, 1), (41, 1), (42, 1), (43, 1), (44, 1)]
    assert list(split_batch(1)) == [(0, 1)]


@pytest.mark.parametrize("precision", ["fp32", "int8", "int4w"])
def test_every_form_answers_as_one_picture_at_a_time_does(precision, tmp_path):
    calibration = Calibration(tiny_images(32, seed=2)) if precision == "int8" else None
    candidate = backend("openvino").build(tiny_onnx(tmp_path / "in.onnx"), tmp_path, precision, calibration)
    images = tiny_images(45)
    with open_engine(tmp_path, candidate, Settings(threads=1)) as engine:
        whole = engine.infer({"image": images})["logits"]
        alone = np.concatenate([engine.infer({"image": images[at : at + 1]})["logits"] for at in range(45)])
    np.testing.assert_allclose(whole, alone, rtol=1e-4, atol=1e-4)


def test_a_bundle_opens_the_engine_of_its_chosen_candidate(tmp_path):
    with serving_engine(null_bundle(tmp_path / "null.bundle"), Settings(threads=1)) as engine:
        assert not engine.infer({"image": np.zeros((2, 8, 8, 3), np.uint8)})["logits"].any()

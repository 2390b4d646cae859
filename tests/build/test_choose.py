"""The choice among candidates: pure judgements on given figures, then real measurements on a small net."""

import msgspec
import numpy as np
import pytest

from deploy.runtime.engines import Settings, open_engine
from tests.backends.tiny import tiny_images, tiny_onnx
from toolchain.backends import Calibration, backend
from toolchain.build.choose import AGREEMENT, choose, measure_candidates
from toolchain.data.dataset import Split
from toolchain.errors import AccuracyError
from toolchain.job import latency as measuring
from toolchain.records.manifest import Candidate, Precision
from toolchain.records.saturation import LayerSaturation, Saturation


def measured(precision: Precision, accuracy: float | None, latency_ms: float | None) -> Candidate:
    return Candidate(precision, "openvino", ("model.xml",), 1, accuracy, latency_ms)


FP32, BF16, INT8 = measured("fp32", 0.9205, 4.0), measured("bf16", 0.9203, 2.4), measured("int8", 0.9190, 1.7)


def verdicts(candidates, reference=0.9205, points=0.3):
    choice = choose(candidates, reference, points)
    return {candidate.precision: candidate.verdict for candidate in choice.candidates}


def test_the_fastest_candidate_that_meets_the_accuracy_threshold_is_chosen():
    candidates, chosen, sentence = choose([FP32, BF16, INT8], 0.9205, 0.3)
    assert chosen == "int8"
    assert [candidate.precision for candidate in candidates] == ["fp32", "bf16", "int8"]
    assert sentence == (
        "int8: 1.70 ms, 91.90% top-1; fastest of 3 measured that meets the accuracy threshold (0.15 points lost)"
    )
    assert verdicts([FP32, BF16, INT8]) == {
        "fp32": "slower than int8: 4.00 ms against 1.70 ms",
        "bf16": "slower than int8: 2.40 ms against 1.70 ms",
        "int8": "chosen: fastest that meets the accuracy threshold",
    }


def test_a_candidate_that_loses_too_much_accuracy_is_rejected_with_the_figures():
    lossy = msgspec.structs.replace(INT8, accuracy=0.9153)
    assert choose([FP32, BF16, lossy], 0.9205, 0.3).chosen == "bf16"
    assert verdicts([FP32, BF16, lossy])["int8"] == "loses 0.52 points, at most 0.30 allowed"


def test_a_loss_of_exactly_the_allowed_points_is_accepted():
    assert choose([FP32, msgspec.structs.replace(INT8, accuracy=0.9175)], 0.9205, 0.3).chosen == "int8"


def test_the_sentence_says_when_int8_is_slower():
    slow = msgspec.structs.replace(INT8, latency_ms=3.1)
    choice = choose([FP32, BF16, slow], 0.9205, 0.3)
    assert choice.chosen == "bf16"
    assert choice.sentence.endswith("; int8 is slower than bf16 here, 3.10 against 2.40 ms")


def test_among_candidates_within_noise_the_most_precise_is_chosen():
    near = msgspec.structs.replace(INT8, latency_ms=2.35)
    choice = choose([FP32, BF16, near], 0.9205, 0.3)
    assert choice.chosen == "bf16"
    assert "int8 is within 3 % of it, so the more precise one is chosen" in choice.sentence
    measured = verdicts([FP32, BF16, near])
    assert measured["bf16"] == "chosen: within 3 % of int8 (2.35 ms), and more precise"
    assert measured["int8"] == "no faster than bf16 beyond noise: 2.35 ms against 2.40 ms"


def test_a_candidate_that_cannot_run_here_keeps_the_reason_as_its_verdict():
    refused = msgspec.structs.replace(BF16, accuracy=None, latency_ms=None, verdict="cannot run here: no bf16")
    assert verdicts([FP32, refused, INT8])["bf16"] == "cannot run here: no bf16"


def test_a_file_that_is_larger_than_fp32_s_says_so_in_every_verdict():
    large = msgspec.structs.replace(INT8, size_bytes=2_500_000)
    small = msgspec.structs.replace(FP32, size_bytes=1_250_000)
    words = "; its file is larger than fp32's: 2.50 MB against 1.25 MB"
    assert verdicts([small, large])["int8"] == f"chosen: fastest that meets the accuracy threshold{words}"
    lossy = msgspec.structs.replace(large, accuracy=0.9)
    assert verdicts([small, lossy])["int8"] == f"loses 2.05 points, at most 0.30 allowed{words}"
    untimed = [msgspec.structs.replace(each, latency_ms=None) for each in (small, large)]
    assert verdicts(untimed)["int8"].endswith(words)
    assert "larger" not in "".join(verdicts([small, msgspec.structs.replace(large, size_bytes=1_270_000)]).values())


def test_when_no_candidate_meets_the_threshold_one_line_has_all_figures():
    refused = msgspec.structs.replace(BF16, accuracy=None, latency_ms=None, verdict="cannot run here: no bf16")
    with pytest.raises(
        AccuracyError, match=r"threshold \(at most 0.30 points lost\): fp32 loses 2.95 points \(4.00 ms\), bf16 cannot "
    ):
        choose([FP32, refused, INT8], 0.95, 0.3)


def test_without_labels_agreement_with_fp32_decides_and_the_sentence_says_so():
    fp32, int8 = (
        msgspec.structs.replace(candidate, accuracy=None, options={AGREEMENT: share})
        for candidate, share in ((FP32, 1.0), (INT8, 0.999))
    )
    choice = choose([fp32, int8], None, 0.3)
    assert choice.chosen == "int8"
    assert "99.90% top-1 agreement with fp32 (no labelled test split)" in choice.sentence


def untimed(precision: Precision, accuracy: float | None) -> Candidate:
    return Candidate(precision, "tensorrt", (f"model-{precision}.sm86.plan",), 1, accuracy)


def test_without_timings_half_precision_serves_until_a_device_has_measured():
    candidates = [untimed("fp32", 0.92), untimed("fp16", 0.9199), untimed("int8", 0.9185), untimed("bf16", 0.9)]
    choice = choose(candidates, 0.9205, 0.3)
    assert choice.chosen == "fp16"
    assert choice.sentence == (
        "fp16: meets the accuracy threshold (0.06 points lost); not timed: no such device here; so do: fp32, int8"
    )
    assert {candidate.precision: candidate.verdict for candidate in choice.candidates} == {
        "fp32": "meets the accuracy threshold; not timed here",
        "fp16": "chosen until a device has measured it",
        "int8": "meets the accuracy threshold; not timed here",
        "bf16": "loses 2.05 points, at most 0.30 allowed",
    }


def test_without_timings_the_threshold_and_the_size_still_count():
    with pytest.raises(
        AccuracyError, match=r"fp32 loses 2.05 points \(not timed\), int8 loses 4.05 points \(not timed\)"
    ):
        choose([untimed("fp32", 0.9), untimed("int8", 0.88)], 0.9205, 0.3)
    candidates = [sized(untimed("fp32", 0.92), 300_000), sized(untimed("int8", 0.9185), 80_000)]
    choice = choose(candidates, 0.9205, 0.3, "size")
    assert choice.chosen == "int8"
    assert choice.sentence.startswith("int8: not timed, 91.85% top-1; 0.0800 MB: smallest of 2")


def sized(candidate, size_bytes):
    return msgspec.structs.replace(candidate, size_bytes=size_bytes)


def test_with_prefer_size_the_smallest_that_meets_the_threshold_is_chosen():
    lossy = sized(measured("int2w", 0.5, 4.0), 20_000)
    small = sized(measured("int4w", 0.9195, 4.0), 40_000)
    candidates = [sized(FP32, 320_000), sized(BF16, 320_000), sized(INT8, 80_000), small, lossy]
    choice = choose(candidates, 0.9205, 0.3, "size")
    assert choice.chosen == "int4w"
    assert choice.sentence == (
        "int4w: 4.00 ms, 91.95% top-1; 0.0400 MB: smallest of 5 measured that meets the accuracy threshold "
        '(0.10 points lost), as prefer = "size" requires'
    )
    assert {candidate.precision: candidate.verdict for candidate in choice.candidates} == {
        "fp32": "larger than int4w: 0.320 MB against 0.0400 MB",
        "bf16": "larger than int4w: 0.320 MB against 0.0400 MB",
        "int8": "larger than int4w: 0.0800 MB against 0.0400 MB",
        "int4w": "chosen: smallest that meets the accuracy threshold",
        "int2w": "loses 42.05 points, at most 0.30 allowed",
    }


def test_with_prefer_size_the_faster_of_two_with_the_same_file_is_chosen():
    choice = choose([FP32, BF16], 0.9205, 0.3, "size")
    assert choice.chosen == "bf16"
    assert choice.candidates[0].verdict == "no smaller than bf16, and slower"


def test_the_verdict_of_packed_weights_names_their_storage():
    narrow = measured("int4w", 0.9195, 4.1)
    assert verdicts([FP32, INT8, narrow])["int4w"] == (
        "slower than int8: 4.10 ms against 1.70 ms; stored, not computed, at 4 bits"
    )


def test_every_precision_that_computes_in_fewer_bits_and_is_slower_is_named():
    slow = [msgspec.structs.replace(candidate, latency_ms=5.0) for candidate in (BF16, INT8)]
    sentence = choose([FP32, *slow, measured("int4w", 0.92, 9.0)], 0.9205, 0.3).sentence
    assert sentence.endswith(
        "; bf16 is slower than fp32 here, 5.00 against 4.00 ms; int8 is slower than fp32 here, 5.00 against 4.00 ms"
    )


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A folder with fp32 and int8 candidates of the tiny net."""
    folder, module = tmp_path_factory.mktemp("candidates"), backend("openvino")
    onnx, calibration = tiny_onnx(folder / "in.onnx"), Calibration(tiny_images(40, seed=2))
    return folder, [module.build(onnx, folder, precision, calibration) for precision in ("fp32", "int8")]


@pytest.fixture(autouse=True)
def short_slices(monkeypatch):
    """No latency is judged here."""
    monkeypatch.setattr(measuring, "SLICE_S", 0.005)
    monkeypatch.setattr(measuring, "ROUNDS", 2)


def test_candidates_are_measured_with_the_engine_that_serves(built, messages):
    folder, candidates = built
    images = tiny_images(150)
    with open_engine(folder, candidates[0], Settings(threads=1)) as engine:
        labels = engine.infer({"image": images})["logits"].argmax(1)
    labels[:15] = 3 - labels[:15]  # fifteen wrong labels: fp32 is right on the others
    part = Split(images, labels, np.arange(150))
    measured = measure_candidates(folder, candidates, part, Settings(threads=2))
    assert measured[0].accuracy == pytest.approx(0.9)
    assert 0.7 < measured[1].accuracy < 1
    assert all(candidate.latency_ms > 0 for candidate in measured)
    assert [line.split(":")[0].strip() for line in messages] == ["fp32", "int8"]


def test_without_a_test_split_agreement_is_measured_on_unlabelled_images(built):
    folder, candidates = built
    measured = measure_candidates(folder, candidates, None, Settings(threads=1), tiny_images(70))
    assert [candidate.accuracy for candidate in measured] == [None, None]
    assert measured[0].options == {AGREEMENT: 1.0}
    assert 0.7 < measured[1].options[AGREEMENT] <= 1


def test_a_candidate_that_cannot_run_here_is_reported_and_the_rest_is_measured(built):
    folder, candidates = built
    strange = msgspec.structs.replace(candidates[1], precision="int8d")
    measured = measure_candidates(folder, [candidates[0], strange], None, Settings(threads=1), tiny_images(8))
    assert measured[1].verdict.startswith(
        "cannot run here: engine openvino runs fp32, fp16, bf16, int8, int8w, int4w, int2w, int1w; not int8d"
    )
    assert measured[1].latency_ms is None


def test_measuring_without_images_is_an_error(built):
    folder, candidates = built
    with pytest.raises(AccuracyError, match="no images to measure candidates on"):
        measure_candidates(folder, candidates, None, Settings(threads=1))
    with pytest.raises(AccuracyError, match="no fp32 to agree with; add fp32 to `precisions`"):
        measure_candidates(folder, candidates[1:], None, Settings(threads=1), tiny_images(8))


def test_where_int8_saturates_on_this_cpu_no_training_is_advised():
    refused = msgspec.structs.replace(
        measured("int8", None, None),
        verdict="cannot run here: int8 would saturate on this CPU",
        saturation=Saturation(1, 1, (LayerSaturation("stem", 0.1, 0.1),)),
    )
    with pytest.raises(AccuracyError) as caught:
        choose([refused], 0.9205, 0.3)
    assert str(caught.value) == (
        "no candidate meets the accuracy threshold (at most 0.30 points lost): int8 cannot run here: int8 would "
        "saturate on this CPU; "
        "remove `full_range`, or build on a CPU with VNNI"
    )

"""Every verdict of the step report, on constructed figures."""

from dataclasses import replace

import pytest

from toolchain.build.step_verdict import StepCriteria, StepRow, StepVerdict, judge_steps, predicted_speedup

START = StepRow("model", 1000, latency_ms=1.0, accuracy=0.92, artifact_bytes=4_000_000, widths={"conv": 64, "fc": 10})
CRITERIA = StepCriteria(reference=0.92, max_loss=0.5, lanes=16)


def after(
    step: str, latency_ms: float | None = 0.5, macs: int = 500, accuracy: float = 0.92, **more: object
) -> StepRow:
    known = {"macs": macs, "latency_ms": latency_ms, "accuracy": accuracy, "artifact_bytes": 2_000_000, **more}
    return replace(START, step=step, **known)  # type: ignore[arg-type]  # a row's own fields


def last(*rows: StepRow, criteria: StepCriteria = CRITERIA) -> StepVerdict:
    return judge_steps((START, *rows), criteria)[-1]


def test_the_original_model_gets_no_verdict() -> None:
    assert judge_steps((START,), CRITERIA) == (StepVerdict(1.0, 1.0, 1.0, 1.0, None, "original"),)


def test_the_predicted_speedup_is_macs_times_bits_times_zeros() -> None:
    assert predicted_speedup(START, after("prune_channels", macs=500)) == pytest.approx(2)
    assert predicted_speedup(START, after("quantize", macs=1000, computed_bits=8)) == pytest.approx(4)
    assert predicted_speedup(START, after("sparsify", macs=500, sparsity=0.75)) == pytest.approx(8)
    assert predicted_speedup(START, after("all", macs=500, sparsity=1.0)) > 1e5


def test_a_faster_model_that_keeps_its_accuracy_pays_and_says_how_much() -> None:
    cut, then = after("prune_channels"), after("quantize", 0.4, computed_bits=8, precision="int8", same=True)
    verdict = last(cut, then)
    assert (verdict.pays, verdict.sentence) == (True, "pays")
    figures = (verdict.predicted, verdict.measured, verdict.step_predicted, verdict.step_measured)
    assert figures == pytest.approx((8, 2.5, 4, 1.25))


def test_a_missing_sparse_kernel_is_named() -> None:
    verdict = last(after("sparsify", 1.0, 1000, sparsity=0.8))
    assert verdict.pays is False
    assert verdict.sentence == (
        "does not pay: unstructured sparsity: no sparse kernel in this engine (no faster, 1.00 -> 1.00 ms)"
    )
    assert last(after("sparsify", 0.95, 1000, sparsity=0.8)).pays is False, "other weights in the same graph"
    two_of_four = last(after("sparsify", 1.0, 1000, sparsity=0.5, options={"pattern": "2:4"}))
    assert "2:4 sparsity: no sparse kernel in this engine" in two_of_four.sentence


def test_layer_widths_that_do_not_fill_a_vector_are_named() -> None:
    cut = after("prune_channels", 1.12, 900, options={"ratio": 0.05}, widths={"conv": 61, "fc": 10})
    assert last(cut).sentence == (
        "does not pay: ratio 0.05 breaks the vector width of 16 (conv 61): 12 % slower, 1.00 -> 1.12 ms"
    )
    many = {f"layer{number}": 15 for number in range(5)}
    start = replace(START, widths=dict.fromkeys(many, 16))
    verdict = judge_steps((start, after("prune_channels", 1.12, 900, widths=many)), CRITERIA)[-1].sentence
    assert (
        "prune_channels breaks the vector width of 16 (layer0 15, layer1 15, layer2 15 and 2 more): 12 % slower"
        in verdict
    )


def test_slower_layers_with_full_vectors_get_no_explanation() -> None:
    cut = after("prune_channels", 1.12, 900, widths={"conv": 48, "fc": 10})
    assert last(cut).sentence == "does not pay: 12 % slower, 1.00 -> 1.12 ms"


def test_a_gain_within_noise_does_not_pay() -> None:
    assert last(after("prune_channels", 0.98)).sentence == "does not pay: no faster, 1.00 -> 0.980 ms"
    assert last(after("prune_channels", 0.96)).pays is True


def test_weight_only_quantization_saves_space_but_no_time() -> None:
    row = after("quantize_weights", 1.0, 1000, stored_bits=4, precision="int4w", same=True)
    assert "weights are widened to fp32 before computing: smaller, not faster (no faster, 1.00" in last(row).sentence
    assert last(row, criteria=replace(CRITERIA, prefer="size")).pays is True


def test_with_prefer_size_a_step_must_make_the_file_smaller() -> None:
    large = after("sparsify", 0.5, artifact_bytes=4_000_000)
    verdict = last(large, criteria=replace(CRITERIA, prefer="size"))
    assert (verdict.pays, verdict.sentence) == (False, "does not pay: not smaller: 4.00 -> 4.00 MB")


def test_accuracy_is_judged_after_the_training_that_follows() -> None:
    cut, tuned = after("prune_channels", accuracy=0.60), after("finetune", accuracy=0.917, trains=True)
    cut_said, tuned_said = judge_steps((START, cut, tuned), CRITERIA)[1:]
    assert (cut_said.pays, cut_said.sentence) == (True, "pays")
    assert (tuned_said.pays, tuned_said.sentence) == (None, "judged with step 1")
    worse = judge_steps((START, cut, replace(tuned, accuracy=0.91)), CRITERIA)[1]
    assert worse.pays is False
    assert worse.sentence == "does not pay: loses 1.00 points after the training that follows, at most 0.50 allowed"
    assert last(cut).sentence == "does not pay: loses 32.00 points, at most 0.50 allowed"


def test_both_reasons_are_reported() -> None:
    verdict = last(after("prune_channels", 1.2, accuracy=0.5))
    assert verdict.sentence == "does not pay: 20 % slower, 1.00 -> 1.20 ms; loses 42.00 points, at most 0.50 allowed"


def test_an_untrained_model_is_judged_from_its_first_training_on() -> None:
    start = replace(START, accuracy=0.1)
    rows = (start, after("prune_channels", accuracy=0.1), after("distill", accuracy=0.5, trains=True))
    then = after("sparsify", 0.4, 400, accuracy=0.45)
    judged = judge_steps((*rows, then), replace(CRITERIA, reference=0.5, judged_from=2))
    assert [step.pays for step in judged] == [None, True, None, False]
    assert judged[3].sentence == "does not pay: loses 5.00 points, at most 0.50 allowed"
    taught = judge_steps((start, after("distill", 1.0, 1000, accuracy=0.9, trains=True)), CRITERIA)[1]
    assert (taught.pays, taught.sentence) == (None, "training")


def test_candidates_of_one_module_are_compared_with_the_module_not_with_each_other() -> None:
    cut = after("prune_channels", 0.5)
    int8 = after("quantize", 0.25, computed_bits=8, precision="int8", same=True)
    weights = after("quantize_weights", 0.5, stored_bits=4, precision="int4w", same=True)
    verdict = last(cut, int8, weights)
    assert verdict.step_measured == pytest.approx(1.0)
    assert verdict.pays is False


def test_a_step_that_was_not_built_or_measured_gets_no_verdict() -> None:
    absent = after("quantize", None, absent="not used: no int8 among the precisions for null")
    assert (last(absent).pays, last(absent).sentence) == (None, "not used: no int8 among the precisions for null")
    assert last(after("qat", None, accuracy=0.92)).sentence == "not measured"
    null = last(after("prune_channels", 2.0), criteria=replace(CRITERIA, computes=False))
    assert (null.pays, null.sentence) == (None, "not judged: this engine computes nothing")


def test_without_labels_only_speed_counts() -> None:
    assert last(after("prune_channels", accuracy=0.0), criteria=replace(CRITERIA, reference=None)).pays is True


def test_consecutive_steps_are_judged_after_the_training_that_follows_all_of_them() -> None:
    blocks, channels = after("prune_blocks", 0.7, 700, 0.4), after("prune_channels", 0.5, 500, 0.3)
    trained = after("distill", 0.5, 500, 0.918, trains=True)
    assert [channel.pays for channel in judge_steps((START, blocks, channels, trained), CRITERIA)] == [
        None,
        True,
        True,
        None,
    ]
    assert [channel.pays for channel in judge_steps((START, blocks, channels), CRITERIA)] == [None, False, False]

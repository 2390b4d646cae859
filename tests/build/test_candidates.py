"""Candidates that may not serve for their answers: what is said of them, and of the step that made them."""

from pathlib import Path

import msgspec
import pytest

from toolchain.build.artifacts import Artifact
from toolchain.build.candidates import CandidateEvaluation, reword_without_accuracy
from toolchain.build.choose import AGREEMENT, choose
from toolchain.build.step_benchmark import StepFigures
from toolchain.build.step_report import replace_refused
from toolchain.build.step_verdict import StepCriteria, StepRow, is_refused, judge_steps
from toolchain.job.stage import StageResult
from toolchain.records.manifest import Candidate
from toolchain.records.output import SOFTMAX

DIFFERS = "refused: answers otherwise than the model, see parity"
CANDIDATES = (
    Candidate("fp32", "openvino", ("a",), 4, None, 2.0, options={AGREEMENT: 1.0}),
    Candidate("int8", "openvino", ("b",), 1, None, 1.0, options={AGREEMENT: 0.95}),
)


@pytest.mark.parametrize(
    ("measure", "words", "kept"),
    [
        ("top-1", "another top-1 than fp32 for 5.00 % of images, at most 0.30 allowed", "the same top-1"),
        ("F1", "labels other than fp32's: 5.00 points of F1, at most 0.30 allowed", "the same F1"),
    ],
)
def test_without_labels_a_verdict_claims_no_accuracy_and_is_a_refusal(measure: str, words: str, kept: str) -> None:
    choice = reword_without_accuracy(choose(CANDIDATES, None, 0.3, measure=measure), measure)
    fp32, int8 = choice.candidates
    assert int8.verdict == words
    assert fp32.verdict == "chosen: fastest that meets the agreement threshold"
    assert kept in choice.sentence
    assert choice.sentence.endswith("accuracy is not known")
    assert [is_refused(each.verdict) for each in choice.candidates] == [False, True]


@pytest.mark.parametrize(
    ("verdict", "sentence"),
    [
        (DIFFERS, DIFFERS),
        ("another top-1 than fp32 for 5.00 % of images, at most 0.30 allowed",) * 2,
        ("slower than fp32: 2.0 ms against 1.0 ms", "pays"),
    ],
)
def test_a_step_does_not_pay_whose_candidate_may_not_serve_for_its_answers(verdict: str, sentence: str) -> None:
    """The step's own figures say that it is twice as fast."""
    int8 = msgspec.structs.replace(CANDIDATES[1], verdict=verdict)
    artifact: Artifact = StageResult(Path("key"), int8)
    evaluation = CandidateEvaluation((CANDIDATES[0], int8), "fp32", "", (), SOFTMAX, "top-1")
    [figures] = replace_refused({"001": "key"}, {"001": StepFigures(1.0)}, (artifact,), evaluation).values()
    rows = StepRow("model", 9, latency_ms=2.0), StepRow("quantize", 9, latency_ms=1.0, absent=figures.absent)
    assert judge_steps(rows, StepCriteria())[1].sentence == sentence

import numpy as np
import pytest

from benchmarks.intake.heads import WRONG, shares_of


def answer(outputs: int, *probabilities: float) -> dict[str, object]:
    best = sorted(
        ({"index": at, "probability": share} for at, share in enumerate(probabilities)), key=str, reverse=True
    )
    return {"top_k": [best], "outputs": [{"shape": [1, outputs]}]}


def test_one_output_s_probability_is_that_of_the_second_class() -> None:
    assert np.array_equal(shares_of(answer(1, 0.2, 0.8)), [[0.8]])
    assert np.array_equal(shares_of(answer(3, 0.2, 0.8, 0.7)), [[0.2, 0.8, 0.7]])


def test_an_answer_without_probabilities_is_said_with_what_came() -> None:
    with pytest.raises(RuntimeError, match=r"no top_k in the answer: .*too large"):
        shares_of({"error": "too large"})


def test_half_of_the_wrong_models_are_of_both_kinds() -> None:
    assert {name.partition("-")[0] for name in list(WRONG)[::2]} == {"one", "several"}

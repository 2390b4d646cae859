import pytest

from toolchain.compress import parse_steps
from toolchain.job.advice import accuracy_advice
from toolchain.recipe import ModelSpec, Recipe
from toolchain.records.tensors import Preprocessing

THRESHOLD = "raise `max_accuracy_loss` under [build]"
PRUNE, FINETUNE, QUANTIZE = {"prune_channels": {"ratio": 0.3}}, {"finetune": {"epochs": 1}}, {"quantize": {}}


@pytest.mark.parametrize(
    ("source", "steps", "advice"),
    [
        ("net.py:net", (), THRESHOLD),
        ("net.py:net", (QUANTIZE,), f"{THRESHOLD}, or put a qat step in the place of quantize"),
        ("net.py:net", (PRUNE, QUANTIZE), f"{THRESHOLD}, or add a finetune step after step 1, prune_channels"),
        ("net.py:net", (PRUNE, FINETUNE, QUANTIZE), f"{THRESHOLD}, or train longer: more epochs in step 2, finetune"),
        ("net.py:net", (FINETUNE, PRUNE), f"{THRESHOLD}, or add a finetune step after step 2, prune_channels"),
        (
            "net.onnx",
            (QUANTIZE,),
            f"{THRESHOLD}, or give the model as file.py:function, which a finetune step can train",
        ),
    ],
)
def test_the_advice_fits_the_steps_that_there_are(
    source: str, steps: tuple[dict[str, dict[str, object]], ...], advice: str
) -> None:
    recipe = Recipe(name="net", model=ModelSpec(source), input=Preprocessing(8, 8), step=steps)
    assert accuracy_advice(recipe, parse_steps(steps, "recipe.toml")) == advice

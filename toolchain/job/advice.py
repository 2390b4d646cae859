"""What a recipe's author can change where compression costs too much accuracy. Knows the steps, measures nothing."""

from pathlib import Path

from toolchain.compress import POST_EXPORT_STEPS, NamedSteps
from toolchain.compress.properties import is_training
from toolchain.recipe import Recipe

THRESHOLD = "raise `max_accuracy_loss` under [build]"


def accuracy_advice(recipe: Recipe, steps: NamedSteps) -> str:
    """What fits these steps: a training is not asked for where there is one, nor where the model is a finished
    graph."""
    if Path(recipe.model.source).suffix in (".onnx", ".pt2"):
        return f"{THRESHOLD}, or give the model as file.py:function, which a finetune step can train"
    numbered = [(number, name, is_training(step)) for number, (name, step) in enumerate(steps, 1)]
    on_torch = [(number, name, trains) for number, name, trains in numbered if name not in POST_EXPORT_STEPS]
    if on_torch:
        number, name, trains = on_torch[-1]
        if trains:
            return f"{THRESHOLD}, or train longer: more epochs in step {number}, {name}"
        return f"{THRESHOLD}, or add a finetune step after step {number}, {name}"
    if any(name == "quantize" for name, _ in steps):
        return f"{THRESHOLD}, or put a qat step in the place of quantize"
    return THRESHOLD

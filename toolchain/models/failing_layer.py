"""Which layer of a model an exception came out of, read from its traceback.

Knows nothing of what the model was used for.
"""

import traceback
from collections.abc import Iterator

from torch import nn

from toolchain.models.preprocessing import PreprocessedModel


def find_failing_layer(error: BaseException) -> str:
    """` in layer 'NAME'`: the innermost layer whose own code raised, else the one that the innermost function worked
    on; '' where there is none. Names are those of the largest module in the traceback, since libraries copy models."""
    frames = [frame.f_locals for frame, _ in traceback.walk_tb(error.__traceback__)][::-1]
    modules = [module for values in frames for module in _modules_in(values)]
    whole = max(modules, key=lambda module: sum(1 for _ in module.modules()), default=nn.Module())
    if isinstance(whole, PreprocessedModel):  # ours: a person knows the names in it
        whole = whole.module
    names = {id(layer): name for name, layer in whole.named_modules() if name}
    raised = [values["self"] for values in frames if id(values.get("self")) in names]
    name = next((names[id(module)] for module in (*raised, *modules) if id(module) in names), "")
    return f" in layer '{name}'" if name else ""


def _modules_in(values: dict[str, object]) -> Iterator[nn.Module]:
    """The modules among a function's variables, themselves or as what a node of Torch-Pruning's graph stands for."""
    for value in list(values.values()):
        is_node = type(value).__module__.startswith("torch_pruning") and hasattr(value, "module")
        module = getattr(value, "module", None) if is_node else value
        if isinstance(module, nn.Module):
            yield module

"""Layer name patterns in a recipe, checked against a module's convolutions and linear layers.

The backends match the same patterns against the exported graph, whose layers keep these names.
"""

from difflib import get_close_matches
from fnmatch import fnmatchcase

from torch import nn

from toolchain.errors import RecipeError

KINDS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)


def check_patterns(module: nn.Module, patterns: tuple[str, ...], option: str) -> None:
    """Raise RecipeError for a pattern (`stages.2.*`) that matches no layer with weights, naming the nearest layers."""
    known = [name for name, layer in module.named_modules() if isinstance(layer, KINDS)]
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in known):
            near = get_close_matches(pattern, known, 3, cutoff=0.0)
            raise RecipeError(f"{option}: no layer '{pattern}'; the nearest are: {', '.join(near) or 'none'}")

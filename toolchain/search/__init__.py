"""Which recipe? Finds those that lose little accuracy and run fast, by measuring both. run.py has it on one page.

The package itself can be called, `toolchain.search("recipe.toml")`, as toolchain/build can and for the same reason.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import Any


class _CallableSearch(ModuleType):
    """Calls what toolchain/api/search.py has; that room stands above this one, so it is looked up by its name."""

    def __call__(
        self,
        recipe: Any,
        target: str = "openvino",
        *,
        hours: float = 1.0,
        max_accuracy_loss: float | None = None,
        storage: str | None = None,
        out: Any = None,
        seed: int = 0,
    ) -> Any:
        """Search for better recipes: see toolchain.api.search.search_recipes."""
        return import_module("..api.search", __name__).search_recipes(
            recipe, target, hours=hours, max_accuracy_loss=max_accuracy_loss, storage=storage, out=out, seed=seed
        )


sys.modules[__name__].__class__ = _CallableSearch

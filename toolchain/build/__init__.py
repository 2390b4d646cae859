"""A recipe becomes a bundle: compress, export, build, compare, choose. pipeline.py has it on one page.

The package itself can be called, `toolchain.build("recipe.toml")`: Python keeps a package in its parent under its own
name, where a function of that name would be lost with the first import of a module in here.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import Any


class _CallableRoom(ModuleType):
    """Calls what toolchain/api/build.py has; that room stands above this one, so it is looked up by its name."""

    def __call__(
        self, recipe: Any, target: str = "openvino", *, release: str | None = None, track: str | None = None
    ) -> Any:
        """Build a recipe into a bundle: see toolchain.api.build.build_bundle."""
        return import_module("..api.build", __name__).build_bundle(recipe, target, release=release, track=track)


sys.modules[__name__].__class__ = _CallableRoom

"""Trained image classifier in, certified container on an edge server out.

`import toolchain as edge` has the public names below and loads none of them before it is used; what is not in `__all__`
is private and may change. __init__.pyi names their types, docs/reference/python.md describes them. The container takes
this module too, without the rooms behind it.
"""

import logging
from importlib import import_module

__version__ = "0.1.0"
_API = "toolchain.api"
# where each public name is defined: (module, name there), or ("", module) for a module
_PLACES = {
    "build": ("", "toolchain.build"),  # a package that can be called: see there
    "ModelSpec": ("toolchain.recipe", "ModelSpec"),
    "InputSpec": ("toolchain.recipe", "InputSpec"),
    "DataSpec": ("toolchain.recipe", "DataSpec"),
    "CalibrationSpec": ("toolchain.recipe", "CalibrationSpec"),
    "BuildSpec": ("toolchain.recipe", "BuildSpec"),
    "Recipe": ("toolchain.recipe", "Recipe"),
    "Bundle": (f"{_API}.bundle", "BuiltBundle"),
    "Image": (f"{_API}.image", "Image"),
    "Client": (f"{_API}.client", "Client"),
    "Prediction": (f"{_API}.prediction", "Prediction"),
    "gate": (f"{_API}.gate", "gate_release"),
    "GateOutcome": (f"{_API}.gate", "GateOutcome"),
    "history": (f"{_API}.history", "read_history"),
    "Server": (f"{_API}.server", "Server"),
    "errors": ("", "toolchain.errors"),
}
__all__ = tuple(_PLACES)
logging.getLogger(__name__).addHandler(logging.NullHandler())


def __getattr__(name: str) -> object:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _PLACES[name]
    return getattr(import_module(module), attribute) if module else import_module(attribute)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

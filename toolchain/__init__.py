"""Trained image classifier in, certified container on an edge server out.

`import toolchain as edge` has the public names below and loads none of them before it is used; what is not in `__all__`
is private and may change. __init__.pyi names their types, docs/reference/python.md describes them. The container takes
this module too, without the rooms behind it.
"""

import logging
from importlib import import_module

__version__ = "0.1.0"
# where each public name is defined: (module, name there), or ("", module) for a module. Relative, so that a stage of a
# build, which depends on the modules that its code names, does not depend on all of these
_PLACES = {
    "build": ("", ".build"),  # a package that can be called: see there
    "search": ("", ".search"),  # likewise
    "SearchSpec": (".recipe", "SearchSpec"),
    "ModelSpec": (".recipe", "ModelSpec"),
    "InputSpec": (".recipe", "InputSpec"),
    "DataSpec": (".recipe", "DataSpec"),
    "CalibrationSpec": (".recipe", "CalibrationSpec"),
    "BuildSpec": (".recipe", "BuildSpec"),
    "Recipe": (".recipe", "Recipe"),
    "Bundle": (".api.bundle", "BuiltBundle"),
    "Image": (".api.image", "Image"),
    "Client": (".api.client", "Client"),
    "Prediction": (".api.prediction", "Prediction"),
    "gate": (".api.gate", "gate_release"),
    "GateOutcome": (".api.gate", "GateOutcome"),
    "history": (".api.history", "read_history"),
    "Server": (".api.server", "Server"),
    "errors": ("", ".errors"),
}
__all__ = tuple(_PLACES)
logging.getLogger(__name__).addHandler(logging.NullHandler())


def __getattr__(name: str) -> object:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _PLACES[name]
    return getattr(import_module(module, __name__), attribute) if module else import_module(attribute, __name__)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

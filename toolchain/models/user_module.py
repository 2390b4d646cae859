"""Builds the module that a user's own `file.py:function` returns.

The file is the user's own code and runs with the rights of whoever starts the build. Knows nothing of weights.
"""

import importlib.util
import inspect
import sys
import traceback
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from toolchain.errors import ModelError
from toolchain.recipe_files import require_user_file


def import_user_file(path: Path, key: str = "model.source") -> ModuleType:
    """Import a Python file under a module name derived from its path alone, so that a module pickled in one process can
    be unpickled in another that calls this first.

    The file's folder is appended to sys.path, so that files next to it can be imported but shadow nothing. key: the
    recipe's, for a message. ModelError names the file and line of an error inside it.
    """
    path = path.resolve()
    name = f"user_{path.stem}_{sha256(str(path).encode()).hexdigest()[:12]}"
    if name in sys.modules:
        return sys.modules[name]
    require_user_file(path, key)
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ModelError(f"{path}: not a Python file; {key} expects path/to/file.py:function")
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise _error_in_file(path, error, "cannot be imported") from error
    return module


def build_user_module(path: Path, function: str, options: Mapping[str, Any]) -> nn.Module:
    """The result of calling `function` of the file with `options`; ModelError unless it is an nn.Module."""
    module = import_user_file(path)
    build = getattr(module, function, None)
    if not callable(build):
        there = ", ".join(sorted(_function_names(module))) or "no functions"
        raise ModelError(f"{path}: no function '{function}'; it has: {there}")
    try:
        inspect.signature(build).bind(**options)
    except TypeError as error:
        raise ModelError(f"{path.name}:{function}{inspect.signature(build)}: model.options: {error}") from error
    try:
        built = build(**options)
    except ModelError:
        raise
    except Exception as error:
        raise _error_in_file(path, error, f"{function}() failed") from error
    if not isinstance(built, nn.Module):
        raise ModelError(f"{path.name}:{function} returned {type(built).__name__}; expected a torch.nn.Module")
    return built


def _function_names(module: ModuleType) -> list[str]:
    return [name for name, value in vars(module).items() if callable(value) and value.__module__ == module.__name__]


def _error_in_file(path: Path, error: Exception, what: str) -> ModelError:
    """A one-line error that points into the user's file: its last frame in the traceback, or the line of a syntax
    error."""
    lines = [
        frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path.resolve())
    ]
    line = error.lineno if isinstance(error, SyntaxError) and not lines else (lines or [None])[-1]
    place = f"{path}:{line}" if line else str(path)
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    first = (text.splitlines() or [""])[0]
    return ModelError(f"{place}: {what}: {type(error).__name__}: {first}")

"""A recipe's `transform = "train.py:eval_transform"`: the user's own function from a Pillow image to a tensor.

The file is the user's own code and runs with the rights of whoever starts the build, as `model.py:build` does. Knows
nothing of what the transform should be equal to.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from toolchain.errors import ModelError, RecipeError
from toolchain.failures import explain_failure
from toolchain.models.source_files import python_files
from toolchain.models.user_module import import_user_file
from toolchain.records.storage import digest_of

Floats = NDArray[np.float32]
KEYWORD_LIBRARIES = ("albumentations", "albucore")  # called as transform(image=array)
RESULT_KEYS = ("image", "pixel_values")  # of albumentations, and of Hugging Face's processors


@dataclass(frozen=True)
class UserTransform:
    """name: as in the recipe. gray: it is given gray images."""

    name: str
    function: Callable[..., Any]
    gray: bool = False

    def apply(self, image: Image.Image) -> Floats:
        """What the model would get, [channels, height, width]; ModelError, in one line, for anything else."""
        image = image.convert("L" if self.gray else "RGB")
        what = f"{self.name} failed on an image of {image.width}x{image.height} pixels"
        with explain_failure(ModelError, what, "expected a function from a Pillow image to a tensor"):
            result = self._call(image)
        return _as_channels_first(self.name, _take_array(result))

    def _call(self, image: Image.Image) -> object:
        if type(self.function).__module__.partition(".")[0] in KEYWORD_LIBRARIES:
            return self.function(image=np.asarray(image))
        return self.function(image)


def load_transform(name: str, base: Path, gray: bool) -> UserTransform:
    """`path/file.py:NAME`, relative to `base`: a transform, a class of one, or a function without arguments that
    returns one. RecipeError or ModelError for what is none."""
    file, _, attribute = name.rpartition(":")
    if not file.endswith(".py") or not attribute.isidentifier():
        raise RecipeError(f'input.transform = "{name}"; expected path/to/file.py:NAME of the training\'s transform')
    module = import_user_file(base / file, "input.transform")
    found = getattr(module, attribute, None)
    if not callable(found):
        there = ", ".join(sorted(key for key, value in vars(module).items() if callable(value) and key[0] != "_"))
        raise ModelError(f"{base / file}: no function or transform '{attribute}'; it has: {there or 'none'}")
    if isinstance(found, type) or _takes_nothing(found):
        with explain_failure(ModelError, f"{name}() failed", "name the transform itself, or a function that makes it"):
            found = found()
    if not callable(found):
        raise ModelError(f"{name}() returned {type(found).__name__}; expected a function from an image to a tensor")
    return UserTransform(name, found, gray)


def transform_digests(name: str, base: Path) -> list[str]:
    """Of the files that a transform may depend on."""
    file = (base / name.rpartition(":")[0]).resolve()
    return [digest_of(path) for path in sorted(python_files(file)) if path.is_file()]


def _takes_nothing(function: Callable[..., Any]) -> bool:
    """Whether it can be called without an argument, and with none."""
    try:
        signature = inspect.signature(function)
        signature.bind()
    except (TypeError, ValueError):
        return False
    try:
        signature.bind(None)
    except TypeError:
        return True
    return inspect.isfunction(function) and _first_default(signature) is not inspect.Parameter.empty


def _first_default(signature: inspect.Signature) -> object:
    """Of the first parameter, as in `def eval_transform(size=224)`, which makes a transform."""
    first = next(iter(signature.parameters.values()))
    return first.default


def _take_array(result: object) -> Any:
    if isinstance(result, Mapping):
        key = next((key for key in RESULT_KEYS if key in result), None)
        result = result[key] if key else result
    if isinstance(result, Sequence) and len(result) == 1:
        result = result[0]
    if hasattr(result, "detach"):  # a torch tensor
        result = result.detach().cpu()
    return result


def _as_channels_first(name: str, result: Any) -> Floats:
    try:
        array = np.asarray(result, np.float32)
    except (TypeError, ValueError):
        array = np.zeros(0, np.float32)
    if array.ndim == 4 and len(array) == 1:
        array = array[0]
    if array.ndim == 2:
        array = array[None]
    if array.ndim == 3 and array.shape[0] not in (1, 3) and array.shape[2] in (1, 3):
        array = array.transpose(2, 0, 1)
    if array.ndim != 3 or array.shape[0] not in (1, 3):
        kind = type(result).__name__ + (f" of shape {list(array.shape)}" if array.ndim and array.size else "")
        raise ModelError(f"{name} returned a {kind}; expected a tensor [1 or 3 channels, height, width]")
    if not np.isfinite(array).all():
        raise ModelError(f"{name} returned values that are not finite; expected a normalized image")
    return np.ascontiguousarray(array)

"""The files that a recipe names. They are looked for before torch is imported, and again by what reads them.

Knows which files a recipe can name; knows nothing of what is in them.
"""

from pathlib import Path

from toolchain.errors import ModelError
from toolchain.recipe import Recipe

NETWORK_SOURCES = "torchvision:NAME, cifar:NAME or file.py:function"
SOURCE_KINDS = "torchvision:NAME, cifar:NAME, file.py:function, file.pt2 or file.onnx"
GRAPHS = (".pt2", ".onnx")
CHECKPOINTS = (".safetensors", ".pt", ".pth", ".ckpt")


def require_user_file(path: Path, key: str) -> None:
    """ModelError when the Python file that `key` of the recipe names is not there."""
    if not path.is_file():
        raise ModelError(f"{path}: no such file; {key} expects path/to/file.py:function")


def require_graph_file(path: Path) -> None:
    """ModelError when the program or ONNX file that model.source names is not there."""
    if not path.is_file():
        raise ModelError(f"{path}: no such file; model.source expects {SOURCE_KINDS}")


def require_checkpoint(path: Path) -> None:
    """ModelError when the checkpoint that model.weights names is not there."""
    if not path.is_file():
        raise ModelError(
            f"{path}: no such file; model.weights expects official, random, own, or a checkpoint file "
            f"({', '.join(CHECKPOINTS)})"
        )


def require_model_files(recipe: Recipe, base: Path) -> None:
    """ModelError for the first file of the model or of the transform that is not there. base: the recipe's folder."""
    source, weights = recipe.model.source, recipe.model.weights
    file, _, function = source.rpartition(":")
    if function and file.endswith(".py"):
        require_user_file((base / file).resolve(), "model.source")
    elif Path(source).suffix in GRAPHS:
        require_graph_file(base / source)
    if Path(weights).suffix in CHECKPOINTS and Path(source).suffix not in GRAPHS:
        require_checkpoint(base / weights)
    transform = (recipe.transform or "").rpartition(":")[0]
    if transform.endswith(".py"):
        require_user_file((base / transform).resolve(), "input.transform")

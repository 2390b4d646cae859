"""Lists the files that a recipe's [model] depends on, for the stage cache's keys.

Knows the kinds of source; reads no weights.
"""

from collections.abc import Iterator
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from toolchain.models.onnx_file.read import external_files
from toolchain.recipe import ModelSpec
from toolchain.records.weights import Weights, read_weights


def user_file(spec: ModelSpec, base: Path) -> Path | None:
    """The Python file of a source `path/file.py:function`, resolved; None for other kinds of source."""
    file, _, function = spec.source.rpartition(":")
    return (base / file).resolve() if function and file.endswith(".py") else None


def source_files(spec: ModelSpec, base: Path) -> tuple[Path, ...]:
    """Every existing file that the model depends on: the source, its weights and its labels; the Python files and
    packages next to the user's own file, which it may import; an ONNX file's external data."""
    own = user_file(spec, base)
    files = {base / name for name in (spec.source, spec.weights, spec.labels) if name}
    if own is not None:
        files |= python_files(own)
    if spec.source.endswith(".onnx"):
        files |= set(_external_data_files(base / spec.source))
    return tuple(sorted({path.resolve() for path in files if path.is_file()}))


def python_files(own: Path) -> set[Path]:
    """The user's own file, and the Python files and packages next to it, which it may import."""
    packages = {path for package in own.parent.glob("*/__init__.py") for path in package.parent.rglob("*.py")}
    return {own, *own.parent.glob("*.py"), *packages}


def read_weights_record(spec: ModelSpec, base: Path) -> Weights | None:
    """The record in the weights file; None when there is no such file, or `toolchain weights` did not write it."""
    path = base / spec.weights
    return read_weights(path) if path.suffix == ".safetensors" and path.is_file() else None


def _external_data_files(path: Path) -> Iterator[Path]:
    try:
        model = onnx.load(path, load_external_data=False)
    except (OSError, DecodeError):
        return  # load_model reports what is wrong with the file
    for name in external_files(model):
        yield path.parent / name

"""Which files decide what a recipe's [model] loads: what a cache must look at to know that nothing changed.

Knows the kinds of source; reads no weights.
"""

from collections.abc import Iterator
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx.external_data_helper import ExternalDataInfo, uses_external_data

from toolchain.recipe import ModelSpec
from toolchain.records.weights import Weights, read_weights


def user_file(spec: ModelSpec, base: Path) -> Path | None:
    """The Python file of a source `path/file.py:function`, resolved; None for the other kinds."""
    file, _, function = spec.source.rpartition(":")
    return (base / file).resolve() if function and file.endswith(".py") else None


def source_files(spec: ModelSpec, base: Path) -> tuple[Path, ...]:
    """Every file that is there of: the source, its weights, its labels; the Python files beside one's own and the
    packages there, which it may import; the weights that an ONNX file keeps in files beside it."""
    own = user_file(spec, base)
    found = {base / name for name in (spec.source, spec.weights, spec.labels) if name}
    if own is not None:
        found |= {own, *own.parent.glob("*.py")}
        found |= {path for package in own.parent.glob("*/__init__.py") for path in package.parent.rglob("*.py")}
    if spec.source.endswith(".onnx"):
        found |= set(_external_data_files(base / spec.source))
    return tuple(sorted({path.resolve() for path in found if path.is_file()}))


def read_weights_record(spec: ModelSpec, base: Path) -> Weights | None:
    """What the file of weights says of itself; None where there is no such file, or not of `toolchain weights`."""
    path = base / spec.weights
    return read_weights(path) if path.suffix == ".safetensors" and path.is_file() else None


def _external_data_files(path: Path) -> Iterator[Path]:
    try:
        graph = onnx.load(path, load_external_data=False).graph
    except (OSError, DecodeError):
        return  # what is wrong with it is said where the model is loaded
    for tensor in graph.initializer:
        if uses_external_data(tensor):
            yield path.parent / ExternalDataInfo(tensor).location

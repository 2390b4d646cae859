"""What torch.save wrote, read without running any of it: tensors, mappings of them, and the state of whole modules.

Both of its forms: the zip archive, and the row of pickles from before torch 1.6. Everything else in the file (a
trainer's arguments, counters, the optimizer) stays a placeholder.
"""

import pickle
import zipfile
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from struct import unpack
from typing import IO, Any, NamedTuple

import torch
from torch import Tensor

from toolchain.models.checkpoints.inert_pickle import InertUnpickler, Placeholder

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "UntypedStorage": torch.uint8,
}
ReadStorage = Callable[["StorageRef"], Tensor]


class StorageRef(NamedTuple):
    """Where a tensor's values lie. elements: how many, or bytes where the dtype is not known here."""

    key: str
    dtype: torch.dtype
    elements: int

    @property
    def size_bytes(self) -> int:
        return self.elements * self.dtype.itemsize


def read_archive(path: Path) -> Any:
    """The content of a zip archive with data.pkl. ValueError, and what zipfile and pickle raise: damaged."""
    with zipfile.ZipFile(path) as archive:
        name = next(name for name in archive.namelist() if name.endswith("data.pkl"))
        root = name.removesuffix("data.pkl")
        if f"{root}byteorder" in archive.namelist() and archive.read(f"{root}byteorder") != b"little":
            raise ValueError("written on a big-endian machine")

        def read_storage(ref: StorageRef) -> Tensor:
            record = archive.getinfo(f"{root}data/{ref.key}")
            if record.file_size != ref.size_bytes:  # before it is unpacked
                raise ValueError(f"{record.filename} has {record.file_size} bytes, expected {ref.size_bytes}")
            return _as_bytes(archive.read(record))

        content = InertUnpickler(BytesIO(archive.read(name)), _storage_ref).load()
        return TensorReader(read_storage).plain(content)


def read_legacy(path: Path) -> Any:
    """The content of the older form: magic number, version, machine, content and keys, a pickle each, then storages."""
    with path.open("rb") as file:
        magic, _, _, content = (InertUnpickler(file, _storage_ref).load() for _ in range(4))
        if magic != LEGACY_MAGIC:
            raise ValueError("no magic number")
        keys = InertUnpickler(file, _storage_ref).load()
        places = _legacy_places(file, keys, {ref.key: ref for ref in _storage_refs(content)})

        def read_storage(ref: StorageRef) -> Tensor:
            file.seek(places[ref.key])
            return _as_bytes(file.read(ref.size_bytes))

        return TensorReader(read_storage).plain(content)


class TensorReader:
    """Makes plain values of placeholders. read_storage: the bytes of a storage, as uint8 [size_bytes]."""

    def __init__(self, read_storage: ReadStorage) -> None:
        self._read, self._storages = read_storage, dict[str, Tensor]()

    def plain(self, value: Any) -> Any:
        """Tensors for tensors, dicts for mappings with names as keys and for modules; anything else as it is."""
        if isinstance(value, Placeholder):
            if (tensor := self._tensor(value)) is not None:
                return tensor
            if _is_module(value):
                return dict(self._module_state(value, ""))
        if isinstance(value, dict):
            return {key: self.plain(item) for key, item in value.items() if isinstance(key, str)}
        return value

    def _module_state(self, module: Placeholder, prefix: str) -> Iterator[tuple[str, Tensor]]:
        """What `state_dict` of a pickled module would hold."""
        skipped = module.state.get("_non_persistent_buffers_set")
        absent: set[Any] = set(*skipped.arguments) if isinstance(skipped, Placeholder) else set()
        for name, value in (*module.state["_parameters"].items(), *module.state.get("_buffers", {}).items()):
            if name not in absent and isinstance(tensor := self.plain(value), Tensor):
                yield f"{prefix}{name}", tensor
        for name, child in module.state["_modules"].items():
            if _is_module(child):
                yield from self._module_state(child, f"{prefix}{name}.")

    def _tensor(self, made: Placeholder) -> Tensor | None:
        """The tensor that torch's function would have made; None for anything else."""
        module, _, name = made.origin.rpartition(".")
        if module not in ("torch._utils", "torch._tensor"):
            return None
        match name, made.arguments:
            case (("_rebuild_parameter" | "_rebuild_parameter_with_state"), (Placeholder() as data, *_)):
                return self._tensor(data)
            case "_rebuild_from_type_v2", (type() as function, _, tuple() as arguments, *_):
                return self._tensor(function(*arguments)) if issubclass(function, Placeholder) else None
            case "_rebuild_tensor_v3", (StorageRef() as ref, offset, size, stride, _, _, dtype, *_):
                return self._view(ref._replace(dtype=torch.uint8), _dtype_of(dtype), offset, size, stride)
            case (("_rebuild_tensor" | "_rebuild_tensor_v2"), (StorageRef() as ref, offset, size, stride, *_)):
                return self._view(ref, ref.dtype, offset, size, stride)
        return None

    def _view(self, ref: StorageRef, dtype: torch.dtype, offset: Any, size: Any, stride: Any) -> Tensor:
        if ref.key not in self._storages:
            self._storages[ref.key] = self._read(ref)
        return self._storages[ref.key].view(dtype).as_strided(_integers(size), _integers(stride), offset)


def _is_module(value: object) -> bool:
    return (
        isinstance(value, Placeholder)
        and isinstance(value.state, dict)
        and all(isinstance(value.state.get(key), dict) for key in ("_parameters", "_modules"))
    )


def _storage_ref(identifier: Any) -> Any:
    """What torch stores apart: a tensor's values; in the older form also the source of a module's class."""
    match identifier:
        case ("module", type() as found, *_):
            return found
        case ("storage", type() as kind, str(key), _, int(count), *view) if issubclass(kind, Placeholder):
            if not any(view):
                return StorageRef(key, DTYPES[kind.origin.rpartition(".")[2]], count)
    raise pickle.UnpicklingError("an unknown reference")


def _storage_refs(value: Any) -> Iterator[StorageRef]:
    """All that `value` refers to, in mappings, sequences, arguments and state."""
    seen, waiting = set[int](), [value]
    while waiting:
        item = waiting.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, StorageRef):
            yield item
        elif isinstance(item, dict):
            waiting += [*item.keys(), *item.values()]
            waiting += [item.arguments, item.state] if isinstance(item, Placeholder) else []
        elif isinstance(item, list | tuple):
            waiting += item


def _legacy_places(file: IO[bytes], keys: list[str], refs: dict[str, StorageRef]) -> dict[str, int]:
    """Where the values of each storage start: after their number, in the order of `keys`."""
    places = {}
    for key in keys:
        (count,) = unpack("<q", file.read(8))
        if count != refs[key].elements:
            raise ValueError(f"storage {key} has {count} elements, expected {refs[key].elements}")
        places[key] = file.tell()
        file.seek(refs[key].size_bytes, 1)
    return places


def _as_bytes(content: bytes) -> Tensor:
    return torch.frombuffer(bytearray(content), dtype=torch.uint8) if content else torch.empty(0, dtype=torch.uint8)


def _dtype_of(named: Any) -> torch.dtype:
    """`torch.float8_e5m2` and the like, by name."""
    dtype = getattr(torch, getattr(named, "origin", "").removeprefix("torch."), None)
    if not isinstance(dtype, torch.dtype):
        raise ValueError("a tensor of unknown type")
    return dtype


def _integers(sizes: Any) -> tuple[int, ...]:
    """A tuple, or the arguments of torch.Size."""
    values = sizes.arguments[0] if isinstance(sizes, Placeholder) else sizes
    if not all(isinstance(value, int) for value in values):
        raise ValueError("a tensor of unknown shape")
    return tuple(values)

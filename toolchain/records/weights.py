"""What a .safetensors file of ours says of itself: where its net came from, what was done to it, how its layers differ.

Reads the file's header alone, as the format defines it (eight bytes of length, then JSON), without the library; knows
nothing of tensors. The record is one JSON document under KEY in the header's metadata, whose values are plain strings.

Format history
1  first (0.2.0)
2  whether activations were learned symmetric (0.3.0)
"""

from pathlib import Path
from typing import Annotated

import msgspec

from toolchain.errors import RecordError
from toolchain.records.storage import decode_record
from toolchain.records.tensors import Preprocessing

FORMAT = 2
KEY = "edge-toolchain"
LENGTH_BYTES = 8
LARGEST_HEADER = 16 << 20  # bytes; a tensor's entry takes about a hundred
Name = Annotated[str, msgspec.Meta(max_length=300)]
Names = Annotated[tuple[Name, ...], msgspec.Meta(max_length=10_000)]
Size = Annotated[int, msgspec.Meta(ge=0, le=1 << 20)]
Sizes = Annotated[tuple[Size, ...], msgspec.Meta(max_length=8)]
LayerSizes = Annotated[dict[Name, Size | Sizes], msgspec.Meta(max_length=16)]
Bits = Annotated[int, msgspec.Meta(ge=1, le=16)]


class QatSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What quantization-aware training put into a net: as the step's options of the same names, learned_scales being
    scales = "learned"."""

    weight_bits: Bits
    activation_bits: Bits | None
    keep_ends: bool
    learned_scales: bool
    symmetric: bool = False


class Structure(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a net differs from what its source builds. layers: sizes of the layers that are narrower; tensors: shapes of
    parameters and buffers that are; identity: modules that pass their input on; absent: modules that are gone; learned:
    after all that, quantization-aware training; sparse: parameters whose zeros stay zeros."""

    layers: Annotated[dict[Name, LayerSizes], msgspec.Meta(max_length=10_000)] = {}
    tensors: Annotated[dict[Name, Sizes], msgspec.Meta(max_length=40_000)] = {}
    identity: Names = ()
    absent: Names = ()
    learned: QatSettings | None = None
    sparse: Names = ()


class AppliedStep(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A step that was applied, with its options as the recipe gave them and the defaults."""

    step: Name
    options: dict[str, object]


class Weights(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """source and options: the recipe's [model], relative paths as there; classes: how wide the source's head was built;
    accuracy: top-1 of fp32 torch on the data's `images` test pictures, a share 0..1, None where there are none."""

    source: str
    options: dict[str, bool | int | float | str]
    classes: Annotated[int, msgspec.Meta(ge=1, le=1 << 20)]
    recipe: str
    input: Preprocessing
    data: str
    seed: int
    steps: tuple[AppliedStep, ...]
    structure: Structure
    accuracy: float | None
    images: int
    parameters: int
    macs: int
    tools: dict[str, str]
    command: str
    format: int = FORMAT


class _Header(msgspec.Struct):
    metadata: dict[str, str] = msgspec.field(name="__metadata__", default_factory=dict)


def read_metadata(path: Path) -> dict[str, str]:
    """The metadata of a .safetensors file, {} when it has none; RecordError when it is not one."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(LENGTH_BYTES), "little")
        if not 2 <= length <= min(LARGEST_HEADER, path.stat().st_size):
            raise RecordError(f"{path}: not a whole .safetensors file; copy it again")
        content = file.read(length)
    try:
        return msgspec.json.decode(content, type=_Header).metadata
    except msgspec.MsgspecError as error:
        raise RecordError(f"{path}: not a whole .safetensors file ({error}); copy it again") from error


def read_weights(path: Path) -> Weights | None:
    """What `path` says of itself; None for a file that is not of `toolchain weights`. RecordError when it is not a
    .safetensors file, is of a format that is not known here, or says what it cannot mean."""
    text = read_metadata(path).get(KEY)
    return None if text is None else decode_record(text.encode(), Weights, str(path), FORMAT)


def require_weights(path: Path) -> Weights:
    """As read_weights; RecordError too for a file that is not there, and for one that is not of `toolchain weights`."""
    try:
        found = read_weights(path)
    except OSError as error:
        raise RecordError(f"{path}: cannot be read ({error.strerror}); expected a .safetensors file") from error
    if found is None:
        raise RecordError(f"{path}: says nothing of itself; expected a file that `toolchain weights` wrote")
    return found

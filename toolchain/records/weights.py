"""The record inside a .safetensors file of `toolchain weights`: the model's source, its steps, and how it differs.

Reads only the file's header, as the format defines it (eight bytes of length, then JSON), without the library; knows
nothing of tensors. The record is one JSON document under KEY in the header's metadata, whose values are plain strings.

Format history
1  first (0.2.0)
2  whether activations were learned symmetric (0.3.0)
3  whether weights of 8 bits use all of them (0.4.0)
4  further ways of resizing in `input` (0.4.0)
"""

from pathlib import Path
from typing import Annotated

import msgspec

from toolchain.errors import RecordError
from toolchain.records.storage import decode_record
from toolchain.records.tensors import Preprocessing

FORMAT = 4
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
    """What quantization-aware training added to a model, named like the step's options; learned_scales: whether
    scales = "learned". full_range: weights of 8 bits lie within -127..127, as all did before format 3; else -64..64."""

    weight_bits: Bits
    activation_bits: Bits | None
    keep_ends: bool
    learned_scales: bool
    symmetric: bool = False
    full_range: bool = True


class Structure(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a model differs from the one that its source builds. layers: sizes of the narrowed layers; tensors: shapes of
    the narrowed parameters and buffers; identity: modules replaced by the identity; absent: removed modules; learned:
    quantization-aware training, applied after all that; sparse: parameters whose zeros stay zeros."""

    layers: Annotated[dict[Name, LayerSizes], msgspec.Meta(max_length=10_000)] = {}
    tensors: Annotated[dict[Name, Sizes], msgspec.Meta(max_length=40_000)] = {}
    identity: Names = ()
    absent: Names = ()
    learned: QatSettings | None = None
    sparse: Names = ()


class AppliedStep(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An applied step with its options, those of the recipe and the defaults."""

    step: Name
    options: dict[str, object]


class Weights(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """source and options: the recipe's [model], with its relative paths; classes: the width of the source's head;
    accuracy: top-1 of fp32 torch on the `images` test images of the data, a share 0..1, None where there are none."""

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
            raise RecordError(f"{path}: not a complete .safetensors file; copy it again")
        content = file.read(length)
    try:
        return msgspec.json.decode(content, type=_Header).metadata
    except msgspec.MsgspecError as error:
        raise RecordError(f"{path}: not a complete .safetensors file ({error}); copy it again") from error


def read_weights(path: Path) -> Weights | None:
    """The record in `path`; None for a file that `toolchain weights` did not write. RecordError when it is not a
    .safetensors file, or its record has an unknown format or an invalid value."""
    text = read_metadata(path).get(KEY)
    return None if text is None else decode_record(text.encode(), Weights, str(path), FORMAT)


def require_weights(path: Path) -> Weights:
    """As read_weights; RecordError also for a missing file and for one that `toolchain weights` did not write."""
    try:
        record = read_weights(path)
    except OSError as error:
        raise RecordError(f"{path}: cannot be read ({error.strerror}); expected a .safetensors file") from error
    if record is None:
        raise RecordError(f"{path}: contains no record; expected a file written by `toolchain weights`")
    return record

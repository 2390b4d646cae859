"""The input sizes that may be a network's: what its graph fixes, what torchvision records, what the images have.

The likeliest first. Which of them the network takes, and answers best at, is tried elsewhere.
"""

from pathlib import Path
from typing import Any

import msgspec
from torchvision import models

from toolchain.init.images import InitImages
from toolchain.init.model_source import InitModel
from toolchain.models.exported_program import load_program
from toolchain.models.onnx_file.interface import type_and_axes
from toolchain.models.onnx_file.read import read_onnx
from toolchain.records.tensors import Filter, Preprocessing

USUAL, USUAL_RESIZE = 224, 256
SQUARES = (32, 64, 96, 128, 160, 192, 256, 320, 384)
SMALLEST_SHARE, LARGEST_SHARE = 0.2, 2  # of the images' shorter side
AS_THEY_ARE = 256  # images of one size up to this are taken whole
LARGEST = 640
MAX_OPTIONS = 12


def size_options(model: InitModel, images: InitImages) -> list[Preprocessing]:
    """Without mean and std. At least one."""
    if model.input is not None:
        return [model.input]
    channels, fixed = _graph_shape(Path(model.spec.source))
    channels = channels or model.channels
    if model.image_size is not None:
        fixed = (model.image_size, model.image_size)
    sizes = _fixed_options(fixed, images) if fixed else _free_options(model.zoo_name, images)
    # a network for colours may have been trained on grey images, but hardly the other way round
    counts = [channels] if channels else list(dict.fromkeys((3 if model.zoo_name else images.channels, 3, 1)))
    options = [msgspec.structs.replace(size, channels=count) for count in counts for size in sizes]
    return list(dict.fromkeys(options))


def official_input(zoo_name: str) -> Preprocessing:
    """What torchvision records of its newest weights: the whole of a recipe's [input]."""
    transform: Any = models.get_model_weights(zoo_name)["DEFAULT"].transforms()
    side, filter_name = transform.crop_size[0], transform.interpolation.value
    kind: Filter = "bicubic" if filter_name == "bicubic" else "bilinear"
    return Preprocessing(
        side, side, mean=tuple(transform.mean), std=tuple(transform.std), resize=transform.resize_size[0], filter=kind
    )


def _fixed_options(size: tuple[int, int], images: InitImages) -> list[Preprocessing]:
    height, width = size
    plain = Preprocessing(height, width)
    if images.size == size or height != width:
        return [plain]
    return [_center_crop(height, height * USUAL_RESIZE // USUAL), plain, _center_crop(height, height)]


def _free_options(zoo_name: str | None, images: InitImages) -> list[Preprocessing]:
    usual = [_center_crop(USUAL, USUAL_RESIZE), Preprocessing(USUAL, USUAL), _center_crop(USUAL, USUAL)]
    if zoo_name is not None:
        recorded = official_input(zoo_name)
        usual.insert(0, msgspec.structs.replace(recorded, mean=(0.0,), std=(1.0,)))
    least, most = SMALLEST_SHARE * images.short_side, LARGEST_SHARE * images.short_side
    squares = [Preprocessing(side, side) for side in SQUARES if least <= side <= most]
    whole = [Preprocessing(*images.size)] if images.size and max(images.size) <= LARGEST else []
    first = whole if whole and max(whole[0].height, whole[0].width) <= AS_THEY_ARE else []
    return list(dict.fromkeys([*first, *usual, *whole, *squares]))[:MAX_OPTIONS]


def _center_crop(side: int, resize: int) -> Preprocessing:
    return Preprocessing(side, side, resize=resize)


def _graph_shape(path: Path) -> tuple[int | None, tuple[int, int] | None]:
    """Channels, and height and width, that a finished graph fixes; None for what it leaves open or is none."""
    if path.suffix == ".onnx" and path.is_file():
        graph = read_onnx(path).graph
        stored = {tensor.name for tensor in graph.initializer}
        axes = next((type_and_axes(each)[1] for each in graph.input if each.name not in stored), None) or ()
    elif path.suffix == ".pt2" and path.is_file():
        axes = _program_axes(path)
    else:
        return None, None
    if len(axes) != 4:
        return None, None
    channels, height, width = axes[1:] if axes[1] in (1, 3) else (axes[3], axes[1], axes[2])
    known = channels if channels in (1, 3) else None
    return known, (height, width) if height and width else None


def _program_axes(path: Path) -> tuple[int | None, ...]:
    """Of the image that the program was exported with; None for what may change."""
    for node in load_program(path).program.graph.nodes:
        shape = getattr(node.meta.get("val"), "shape", ())
        if node.op == "placeholder" and len(shape) == 4:
            return tuple(int(axis) if isinstance(axis, int) else None for axis in shape)
    return ()

"""Where an image's pixels lie in the model's input: its size after resizing, what is kept of it, and where that goes.

Knows no pixels and no filter.
"""

from typing import NamedTuple

from toolchain.records.tensors import Preprocessing


class Axis(NamedTuple):
    """One side of an image: `source` pixels are resized to `resized`, of which those from `start` to before `stop` are
    kept."""

    source: int
    resized: int
    start: int
    stop: int

    @property
    def scale(self) -> float:
        """Source pixels for each resized one."""
        return self.source / self.resized

    @property
    def kept(self) -> int:
        return self.stop - self.start


class Placement(NamedTuple):
    """The kept part begins at `top` and `left` of the model's image; around it is the letterbox's colour."""

    down: Axis
    across: Axis
    top: int = 0
    left: int = 0


def place_image(height: int, width: int, preprocessing: Preprocessing) -> Placement:
    """Of an image of height x width pixels.

    Where the crop does not fit into the resized image (a shape wider than `resize` allows), the image is enlarged until
    it does.
    """
    if preprocessing.letterbox is not None:
        return _letterbox(height, width, preprocessing)
    down, across = _resized_size(height, width, preprocessing)
    top = _offset(down - preprocessing.height, preprocessing)
    left = _offset(across - preprocessing.width, preprocessing)
    return Placement(
        Axis(height, down, top, top + preprocessing.height), Axis(width, across, left, left + preprocessing.width)
    )


def _letterbox(height: int, width: int, preprocessing: Preprocessing) -> Placement:
    """The whole image in a box, which is then cropped."""
    box_height, box_width = _box(preprocessing)
    if box_height * width <= box_width * height:
        down, across = box_height, _follow(box_height, width, height, preprocessing)
    else:
        down, across = _follow(box_width, height, width, preprocessing), box_width
    top = _offset(box_height - down, preprocessing) - _offset(box_height - preprocessing.height, preprocessing)
    left = _offset(box_width - across, preprocessing) - _offset(box_width - preprocessing.width, preprocessing)
    return Placement(
        Axis(height, down, max(0, -top), min(down, preprocessing.height - top)),
        Axis(width, across, max(0, -left), min(across, preprocessing.width - left)),
        max(0, top),
        max(0, left),
    )


def _box(preprocessing: Preprocessing) -> tuple[int, int]:
    resize = preprocessing.resize
    if resize is None:
        return preprocessing.height, preprocessing.width
    return resize if isinstance(resize, tuple) else (resize, resize)


def _resized_size(height: int, width: int, preprocessing: Preprocessing) -> tuple[int, int]:
    resize = preprocessing.resize
    if not isinstance(resize, int):
        return _box(preprocessing)
    shorter = min(height, width)
    down, across = (_follow(resize, side, shorter, preprocessing) for side in (height, width))
    grow = max(1.0, preprocessing.width / across, preprocessing.height / down)
    return max(round(down * grow), preprocessing.height), max(round(across * grow), preprocessing.width)


def _follow(resized: int, side: int, other: int, preprocessing: Preprocessing) -> int:
    """What `side` becomes when `other` becomes `resized`."""
    size = resized * side // other if preprocessing.size_rounding == "floor" else round(resized * side / other)
    return max(size, 1)


def _offset(left_over: int, preprocessing: Preprocessing) -> int:
    if preprocessing.offset == "corner":
        return 0
    return left_over // 2 if preprocessing.offset == "floor" else round(left_over / 2)

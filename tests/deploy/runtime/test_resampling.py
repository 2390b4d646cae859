"""Each way of resizing against the library that it is named after, and where an image's pixels lie."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from deploy.runtime.preprocessing import choose_scale, decode_and_fit, fit_array, fits, read_image, resampling_bytes
from deploy.runtime.resampling.geometry import Axis, Placement, place_image
from deploy.runtime.resampling.opencv import resize_as_opencv
from tests.deploy.runtime.test_preprocessing import bytes_of
from toolchain.records.tensors import Filter, Preprocessing, Resampler

SIZES = [(301, 457), (64, 80), (448, 448), (30, 1000)]


def photo(height: int, width: int) -> np.ndarray:
    """Edges, gradients and noise."""
    random = np.random.default_rng(height * width)
    coarse = random.integers(0, 256, (height // 9 + 2, width // 9 + 2, 3), np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC), np.int64)
    return np.clip(smooth + random.integers(-25, 26, smooth.shape), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ["bilinear", "bicubic", "nearest"])
def test_torch_without_antialiasing_is_followed_to_the_byte(size: tuple[int, int], name: Filter) -> None:
    image = photo(*size)
    resize = v2.Resize((96, 128), v2.InterpolationMode(name), antialias=False)
    theirs = v2.CenterCrop(64)(resize(torch.from_numpy(image).permute(2, 0, 1))).permute(1, 2, 0).numpy()
    rule = Preprocessing(64, 64, resize=(96, 128), filter=name, resampler="torch-no-antialias")
    assert np.array_equal(fit_array(image, rule), theirs)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ["lanczos", "nearest", "area"])
def test_pillows_other_filters_are_its_own(size: tuple[int, int], name: Filter) -> None:
    image = photo(*size)
    filters = {"lanczos": Image.Resampling.LANCZOS, "nearest": Image.Resampling.NEAREST, "area": Image.Resampling.BOX}
    theirs = np.asarray(Image.fromarray(image).resize((40, 30), filters[name]))
    assert np.array_equal(fit_array(image, Preprocessing(30, 40, filter=name)), theirs)


# What OpenCV 4.14 and 5.0 (without IPP) make of RED in 3 x 4 pixels, and in 8 x 9 rows 2 and 3 of columns 3 to 5.
# make bench-intake compares photographs with the library itself.
OPENCV = {
    "bilinear": ([[58, 102, 180, 47], [157, 109, 62, 160], [112, 56, 146, 97]], [[209, 133, 78], [148, 164, 76]]),
    "bicubic": ([[52, 102, 197, 31], [155, 116, 58, 164], [111, 49, 151, 91]], [[246, 134, 60], [182, 159, 62]]),
    "lanczos": ([[45, 93, 197, 16], [157, 124, 60, 172], [105, 53, 149, 82]], [[254, 131, 47], [203, 148, 57]]),
    "nearest": ([[12, 200, 90, 0], [5, 17, 130, 128], [60, 142, 255, 111]], [[240, 130, 130], [240, 130, 130]]),
    "area": ([[60, 115, 140, 48], [108, 120, 91, 117], [107, 67, 131, 98]], [[224, 130, 73], [133, 170, 66]]),
}
RED = np.array(
    [
        [12, 200, 33, 90, 255, 0, 71],
        [5, 17, 240, 130, 64, 128, 9],
        [250, 3, 99, 180, 45, 77, 210],
        [60, 142, 8, 255, 19, 111, 34],
        [181, 26, 73, 5, 222, 160, 88],
    ],
    np.uint8,
)


@pytest.mark.parametrize("name", OPENCV)
def test_opencv_is_followed_to_the_byte(name: str) -> None:
    small = resize_as_opencv(RED[:, :, None], Axis(5, 3, 0, 3), Axis(7, 4, 0, 4), name)[:, :, 0]
    large = resize_as_opencv(RED[:, :, None], Axis(5, 8, 2, 4), Axis(7, 9, 3, 6), name)[:, :, 0]
    assert small.tolist() == OPENCV[name][0] and large.tolist() == OPENCV[name][1]


def test_opencv_takes_the_mean_where_sides_are_halved() -> None:
    image = photo(64, 80)
    blocks = image.reshape(32, 2, 40, 2, 3).sum(axis=(1, 3), dtype=np.int64)
    names: tuple[Filter, ...] = ("bilinear", "area")
    for name in names:
        rule = Preprocessing(32, 40, filter=name, resampler="opencv")
        assert np.array_equal(fit_array(image, rule), (blocks + 2) // 4)


@pytest.mark.parametrize("resampler", ["torch-no-antialias", "opencv"])
def test_a_crop_is_a_part_of_the_whole_and_a_size_that_fits_stays(resampler: Resampler) -> None:
    image = photo(61, 87)
    whole = fit_array(image, Preprocessing(40, 50, filter="bicubic", resampler=resampler))
    part = fit_array(image, Preprocessing(20, 30, resize=(40, 50), filter="bicubic", resampler=resampler))
    assert np.array_equal(part, whole[10:30, 10:40])
    assert np.array_equal(fit_array(image, Preprocessing(61, 87, resampler=resampler)), image)


def test_grey_images_are_resized_alike() -> None:
    image = photo(40, 50)[:, :, :1]
    resamplers: tuple[Resampler, ...] = ("torch-no-antialias", "opencv")
    for resampler in resamplers:
        rule = Preprocessing(20, 30, channels=1, resampler=resampler)
        colour = fit_array(image.repeat(3, 2), Preprocessing(20, 30, resampler=resampler))
        assert np.array_equal(fit_array(image, rule), colour[:, :, :1])


@pytest.mark.parametrize(
    ("size", "keys", "expected"),
    [
        ((300, 200), {}, Placement(Axis(300, 100, 0, 100), Axis(200, 80, 0, 80))),
        ((300, 200), {"resize": (120, 90)}, Placement(Axis(300, 120, 10, 110), Axis(200, 90, 5, 85))),
        ((301, 200), {"resize": 101}, Placement(Axis(301, 152, 26, 126), Axis(200, 101, 10, 90))),
        (
            (301, 200),
            {"resize": 101, "offset": "floor", "size_rounding": "round"},
            Placement(Axis(301, 152, 26, 126), Axis(200, 101, 10, 90)),
        ),
        ((301, 201), {"resize": 103}, Placement(Axis(301, 154, 27, 127), Axis(201, 103, 12, 92))),
        ((301, 201), {"resize": 103, "offset": "floor"}, Placement(Axis(301, 154, 27, 127), Axis(201, 103, 11, 91))),
        ((301, 201), {"resize": 103, "offset": "corner"}, Placement(Axis(301, 154, 0, 100), Axis(201, 103, 0, 80))),
        ((200, 200), {"letterbox": (0,)}, Placement(Axis(200, 80, 0, 80), Axis(200, 80, 0, 80), 10, 0)),
        ((50, 160), {"letterbox": (0,)}, Placement(Axis(50, 25, 0, 25), Axis(160, 80, 0, 80), 38, 0)),
        (
            (50, 160),
            {"letterbox": (0,), "offset": "floor"},
            Placement(Axis(50, 25, 0, 25), Axis(160, 80, 0, 80), 37, 0),
        ),
        (
            (200, 100),
            {"letterbox": (0,), "resize": 120},
            Placement(Axis(200, 120, 10, 110), Axis(100, 60, 0, 60), 0, 10),
        ),
    ],
)
def test_where_an_image_lies(size: tuple[int, int], keys: dict[str, object], expected: Placement) -> None:
    assert place_image(*size, Preprocessing(100, 80, **keys)) == expected  # type: ignore[arg-type]  # keys of several types


def test_a_letterbox_has_its_colour_round_the_whole_image() -> None:
    image = np.full((50, 160, 3), 200, np.uint8)
    fitted = fit_array(image, Preprocessing(100, 80, letterbox=(1, 2, 3), offset="floor"))
    assert (fitted[37:62] == 200).all() and (fitted[:37] == (1, 2, 3)).all() and (fitted[62:] == (1, 2, 3)).all()


def test_an_image_of_the_right_size_is_left_alone_by_a_letterbox_but_not_by_another_size() -> None:
    assert fits((8, 8, 3), Preprocessing(8, 8, letterbox=(0,))) and fits((8, 9, 3), Preprocessing(8, 9, resize=(8, 9)))
    assert not fits((8, 9, 3), Preprocessing(8, 9, resize=(9, 9)))


def test_a_jpeg_is_decoded_whole_where_not_every_pixel_counts() -> None:
    large = read_image(bytes_of(Image.new("RGB", (4000, 3000)), "JPEG"))
    assert choose_scale(large, Preprocessing(32, 32, filter="lanczos")) == 8
    for rule in (Preprocessing(32, 32, filter="nearest"), Preprocessing(32, 32, resampler="opencv")):
        assert choose_scale(large, rule) == 1


def test_memory_for_resizing_is_counted() -> None:
    image = read_image(bytes_of(Image.new("RGB", (400, 300))))
    assert resampling_bytes(image, Preprocessing(32, 32)) == 0
    assert resampling_bytes(image, Preprocessing(32, 32, resampler="opencv")) == 3 * 300 * (400 + 9 * 32)


@pytest.mark.parametrize("resampler", ["torch-no-antialias", "opencv"])
def test_a_thread_of_pixels_costs_no_more_than_another_image(resampler: Resampler) -> None:
    rule = Preprocessing(64, 64, resize=80, filter="bicubic", resampler=resampler)
    assert decode_and_fit(bytes_of(Image.new("RGB", (1, 100_000))), rule).shape == (64, 64, 3)

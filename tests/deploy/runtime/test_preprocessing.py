"""The one meaning of Preprocessing: geometry, channels, limits and what is said of bytes that are no picture."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from torchvision.transforms import v2

from deploy.runtime import preprocessing as pictures
from deploy.runtime.decoding.encoded_image import TAKEN
from deploy.runtime.preprocessing import crop_box, decode_and_fit, fit_array, fits
from toolchain.errors import RequestError
from toolchain.records.tensors import Preprocessing

SMALL = Preprocessing(8, 8)


def noise(height: int, width: int, channels: int = 3) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, channels), np.uint8)
    return Image.fromarray(pixels if channels == 3 else pixels[:, :, 0])


def bytes_of(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    file = BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize("size", [(300, 200), (200, 300), (257, 256), (64, 48), (1000, 31)])
@pytest.mark.parametrize("name", ["bilinear", "bicubic"])
def test_the_geometry_is_torchvisions_resize_and_centre_crop(size: tuple[int, int], name: str) -> None:
    image = noise(*size)
    theirs = v2.Compose([v2.Resize(256, v2.InterpolationMode(name)), v2.CenterCrop(224)])(image)
    ours = decode_and_fit(bytes_of(image), Preprocessing(224, 224, resize=256, filter=name))  # type: ignore[arg-type]  # checked by parametrize
    distance = np.abs(ours.astype(int) - np.asarray(theirs).astype(int))
    assert distance.mean() < 0.5  # Pillow picks which axis it resizes first by cost, and rounds in between
    assert distance.max() <= 1 or name == "bicubic"  # noise overshoots, and is clipped in between


def test_a_picture_that_fits_comes_out_unchanged() -> None:
    image = noise(8, 8)
    assert np.array_equal(decode_and_fit(bytes_of(image), SMALL), np.asarray(image))
    assert fit_array(np.asarray(image), SMALL) is not None


def test_without_resize_a_picture_is_stretched() -> None:
    wide = Preprocessing(96, 160)
    ours = decode_and_fit(bytes_of(noise(50, 50)), wide)
    assert np.array_equal(ours, np.asarray(noise(50, 50).resize((160, 96), Image.Resampling.BILINEAR)))


def test_a_crop_wider_than_the_resized_picture_enlarges_it() -> None:
    assert decode_and_fit(bytes_of(noise(50, 50)), Preprocessing(96, 160, resize=100)).shape == (96, 160, 3)
    assert crop_box(50, 50, Preprocessing(96, 160, resize=100)) == (0.0, 10.0, 50.0, 40.0)


def test_a_picture_of_one_by_a_million_pixels_costs_no_more_than_another() -> None:
    thread = Image.new("RGB", (1, 1_000_000))
    assert decode_and_fit(bytes_of(thread), Preprocessing(224, 224, resize=256)).shape == (224, 224, 3)


def test_bytes_and_arrays_mean_the_same() -> None:
    image, preprocessing = noise(40, 30), Preprocessing(16, 16, channels=1, resize=20)
    assert np.array_equal(decode_and_fit(bytes_of(image), preprocessing), fit_array(np.asarray(image), preprocessing))


def test_grey_pixels_become_three_channels() -> None:
    grey = np.arange(64, dtype=np.uint8).reshape(8, 8, 1)
    assert np.array_equal(fit_array(grey, SMALL), grey.repeat(3, axis=2))


def test_fitting_asks_for_shape_and_resize() -> None:
    assert fits((8, 8, 3), SMALL) and fits((8, 8, 3), Preprocessing(8, 8, resize=8))
    assert not fits((8, 8, 3), Preprocessing(8, 8, resize=9)) and not fits((8, 8, 1), SMALL)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "I;16"])
def test_every_png_mode_is_read(mode: str) -> None:
    image = noise(8, 8, 1).convert("L")
    image = Image.fromarray(np.asarray(image).astype(np.uint16) << 8) if mode == "I;16" else image.convert(mode)
    kept = decode_and_fit(bytes_of(image), Preprocessing(8, 8, channels=1))[:, :, 0]
    if mode in ("L", "LA", "I;16", "RGBA"):
        assert np.array_equal(kept, np.asarray(noise(8, 8, 1)))


def test_a_palette_with_transparency_is_read() -> None:
    content = bytes_of(noise(8, 8).convert("P"), transparency=bytes(range(256)))
    assert decode_and_fit(content, SMALL).shape == (8, 8, 3)


def test_a_cmyk_jpeg_is_read_as_rgb() -> None:
    assert decode_and_fit(bytes_of(noise(8, 8).convert("CMYK"), "JPEG"), SMALL).shape == (8, 8, 3)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_cameras_orientation_is_obeyed(orientation: int) -> None:
    from PIL import ImageOps

    exif = Image.Exif()
    exif[0x0112] = orientation
    content = bytes_of(noise(8, 8), "PNG", exif=exif)
    upright = ImageOps.exif_transpose(Image.open(BytesIO(content)))
    assert np.array_equal(decode_and_fit(content, SMALL), np.asarray(upright))


@pytest.mark.parametrize(
    ("content", "why"), [(b"", "unknown format"), (b"hello", "unknown format"), (b"GIF89a" + bytes(50), "no frame")]
)
def test_what_is_no_picture_is_refused(content: bytes, why: str) -> None:
    with pytest.raises(RequestError, match=f"not a complete {TAKEN} image .{why}.; got {len(content)} bytes"):
        decode_and_fit(content, SMALL)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_a_picture_cut_short_is_refused_wherever_it_is_cut(kind: str) -> None:
    content = bytes_of(noise(64, 64), kind)
    for end in range(0, len(content) - 12, 97):
        with pytest.raises(RequestError, match="not a complete JPEG"):
            decode_and_fit(content[:end], SMALL)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_changed_bytes_never_raise_anything_but_a_request_error(kind: str) -> None:
    random, content = np.random.default_rng(1), bytes_of(noise(32, 32), kind)
    for _ in range(300):
        broken = bytearray(content)
        for place in random.integers(0, len(content), 3):
            broken[place] = random.integers(256)
        try:
            assert decode_and_fit(bytes(broken), SMALL).shape == (8, 8, 3)
        except RequestError as error:
            assert "\n" not in str(error)


def test_a_bomb_is_refused_by_its_header() -> None:
    bomb = bytes_of(Image.new("1", (9000, 9000)))
    assert len(bomb) < 20_000
    with pytest.raises(RequestError, match="9000x9000 pixels: expected at most 64000000"):
        decode_and_fit(bomb, SMALL)


@pytest.mark.parametrize("side", [10_000, 13_500])
def test_pillows_own_limits_are_told_alike(side: int) -> None:
    with pytest.raises(RequestError, match="pixels: expected at most 64000000"):
        decode_and_fit(bytes_of(Image.new("1", (side, side))), SMALL)


def test_too_many_bytes_are_refused_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "MAX_BYTES", 10)
    with pytest.raises(RequestError, match="an image of 11 bytes: expected at most 10"):
        decode_and_fit(bytes(11), SMALL)


def test_a_jpeg_that_asks_for_thousands_of_scans_is_refused_unread() -> None:
    content = bytes_of(noise(64, 64), "JPEG", progressive=True)
    assert 2 < content.count(b"\xff\xda") < 20
    assert decode_and_fit(content, SMALL).shape == (8, 8, 3)
    scan = content[content.rindex(b"\xff\xda") : -2]
    with pytest.raises(
        RequestError, match=r"^a JPEG of \d+ scans: expected at most 200; save it again as baseline JPEG$"
    ):
        decode_and_fit(content[:-2] + scan * 5000 + content[-2:], SMALL)

"""Image files read by their headers: what pixels need is kept and nothing else, and costs are known beforehand."""

import subprocess
import sys
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps, TiffImagePlugin

from deploy.runtime.preprocessing import decode_and_fit, read_image
from tests.deploy.runtime.decoding.files import (
    as_mpo,
    bmp,
    chunk,
    encode,
    gif,
    many_scans,
    noise,
    png,
    segment,
    tiff,
    webp,
)
from toolchain.errors import RequestError
from toolchain.records.tensors import Array, Preprocessing

SIZED = Preprocessing(20, 30)
ROTATED = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"
ZEROS = zlib.compress(bytes(100 << 20), 9)


def by_pillow(content: bytes) -> Array:
    return np.asarray(ImageOps.exif_transpose(Image.open(BytesIO(content))).convert("RGBA").convert("RGB"))


def turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010F] = "a maker"
    return exif


PHOTO = noise(20, 30)
HALF_CLEAR = PHOTO.copy()
HALF_CLEAR.putalpha(Image.linear_gradient("L").resize((30, 20)))
GENUINE = {
    "baseline": encode(PHOTO, "JPEG"),
    "progressive": encode(PHOTO, "JPEG", progressive=True),
    "MPO": encode(PHOTO, "MPO", save_all=True, append_images=[noise(40, 40)]),
    "with EXIF, profile and comment": encode(PHOTO, "JPEG", exif=turned(1), icc_profile=bytes(70_000), comment=b"x"),
    "upright by XMP": encode(PHOTO, "JPEG", xmp=b'<x tiff:Orientation="1"/>'),
    "PNG": encode(PHOTO, "PNG"),
    "APNG": encode(PHOTO, "PNG", save_all=True, append_images=[noise(20, 30).transpose(Image.Transpose.ROTATE_180)]),
    "palette": encode(PHOTO.convert("P"), "PNG", transparency=bytes(range(256))),
    "interlaced alpha": encode(PHOTO.convert("RGBA"), "PNG"),
    **{f"WebP {quality}": encode(HALF_CLEAR, "WEBP", quality=quality) for quality in (50, 90)},
    "lossless WebP": encode(HALF_CLEAR, "WEBP", lossless=True, exif=turned(6)),
    "animated WebP": encode(PHOTO, "WEBP", save_all=True, append_images=[PHOTO.rotate(180)]),
    **{f"BMP {mode}": encode(PHOTO.convert(mode), "BMP") for mode in ("1", "L", "P", "RGB", "RGBA")},
    **{f"GIF {mode}": encode(PHOTO.convert(mode), "GIF", comment=b"x" * 999) for mode in ("L", "P")},
    "animated GIF": encode(PHOTO, "GIF", save_all=True, append_images=[PHOTO.rotate(180)], transparency=3, loop=0),
    **{
        f"TIFF {mode} {way}": encode(PHOTO.convert(mode), "TIFF", compression=way, exif=turned(8))
        for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK")
        for way in (None, "tiff_lzw", "tiff_adobe_deflate", "packbits")
    },
    "pages": encode(PHOTO, "TIFF", save_all=True, append_images=[noise(40, 40)]),
}


@pytest.mark.parametrize("name", GENUINE)
def test_genuine_files_mean_what_they_meant_to_pillow(name: str) -> None:
    wanted = by_pillow(GENUINE[name])
    assert np.array_equal(decode_and_fit(GENUINE[name], Preprocessing(*wanted.shape[:2])), wanted)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("way", ["exif", "xmp", "png", "raw profile"])
def test_the_orientation_is_read_wherever_cameras_and_editors_write_it(orientation: int, way: str) -> None:
    xmp = b'<rdf tiff:Orientation="%d"/>' % orientation
    content = {
        "exif": lambda: encode(PHOTO, "JPEG", exif=turned(orientation)),
        "xmp": lambda: encode(PHOTO, "JPEG", xmp=xmp),
        "png": lambda: encode(PHOTO, "PNG", exif=turned(orientation)),
        "raw profile": lambda: _with_raw_profile(turned(orientation).tobytes()),
    }[way]()
    wanted = by_pillow(content)
    assert read_image(content).orientation == orientation
    assert np.array_equal(decode_and_fit(content, Preprocessing(*wanted.shape[:2])), wanted)


def _with_raw_profile(exif: bytes) -> bytes:
    text = b"\nexif\n%8d\n%s\n" % (len(exif), exif.hex().encode())
    plain = GENUINE["PNG"]
    return plain[:33] + chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(text)) + plain[33:]


def test_what_pixels_do_not_need_never_reaches_the_decoder() -> None:
    plain = GENUINE["baseline"]
    assert read_image(plain).content is plain
    assert read_image(as_mpo(plain)).content == plain
    assert read_image(GENUINE["MPO"]).format == "JPEG"
    loaded = plain[:2] + segment(0xE1, b"Exif\0\0" + bytes(60_000)) * 20 + plain[2:] + b"what follows its end"
    assert read_image(loaded).content == plain
    small = png(8)
    for kind, content in ((b"zTXt", b"Comment\0\0" + ZEROS), (b"iCCP", b"icc\0\0" + ZEROS), (b"fdAT", bytes(99))):
        assert read_image(png(8, before=chunk(kind, content), after=chunk(kind, content))).content == small


def test_an_exif_block_whose_entries_all_point_at_the_whole_block_costs_nothing() -> None:
    entries = b"".join(tag.to_bytes(2, "little") + b"\x07\0\0\xe0\0\0\0\0\0\0" for tag in range(0x200, 0x200 + 4800))
    bomb = b"Exif\0\0II*\0\x08\0\0\0" + (4800).to_bytes(2, "little") + entries
    plain = GENUINE["baseline"]
    image = read_image(plain[:2] + segment(0xE1, bomb) + plain[2:])
    assert (image.orientation, image.content) == (1, plain)


@pytest.mark.parametrize("wrap", [bytes, as_mpo])
def test_scans_are_counted_whatever_the_file_is_called(wrap: type[bytes]) -> None:
    with pytest.raises(RequestError, match=r"^a JPEG of 410 scans: expected at most 200; save it again as baseline"):
        read_image(wrap(many_scans(64, 400)))
    with pytest.raises(RequestError, match=r"^a JPEG of 160 scans of 4000x4000 pixels: expected at most 1000000000 "):
        read_image(wrap(many_scans(4000, 150)))


PAGE = {256: (8,), 257: (8,), 258: (8,), 259: (1,), 262: (1,), 273: (100,), 277: (1,), 278: (8,), 279: (64,)}
TILED = {tag: values for tag, values in PAGE.items() if tag not in (273, 278, 279)} | {324: (100,), 325: (64,)}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (GENUINE["baseline"][:2] + segment(0xE1, b"") * 5000 + GENUINE["baseline"][2:], "more than 4096 segments"),
        (png(8, before=chunk(b"tEXt", b"") * 17_000), "more than 16384 chunks"),
        (GENUINE["baseline"][:2] + segment(0xC0, b"\x08\0\x08\0\x08\x01\0\0\0") + GENUINE["baseline"][2:], "2 frames"),
        (b"\xff" * 100_000, "unknown format"),
        (b"\xff\xd8" + b"\xff" * 1_000_000, "no image data"),
        (b"\x89PNG\r\n\x1a\n" + chunk(b"IDAT", b"x"), "no header"),
        (png(8).replace(b"\0\0\0\x08\0\0\0\x08", bytes(8)), "0x0 pixels"),
        (bmp(8000, 8000), "cut"),
        (bmp(8, 8, compression=1, pixels=bytes(999)), "a BMP with compression 1: expected none; save it as PNG"),
        (bmp(0, 8), "0x8 pixels"),
        (bmp(8, 8, bits=7), "8x8 pixels of 7 bits"),
        (b"BM" + bytes(30), "a header of 0 bytes"),
        (b"GIF89a", "no frame"),
        (gif(0, 8), "0x8 pixels"),
        (gif(65535, 65535), "an image of 65535x65535 pixels: expected at most 64000000"),
        (gif(8, 8, before=b"!\xfe" + b"\x01x" * 20_000 + b"\0"), "a GIF of more than 16384 blocks"),
        (webp(16384, 16384), "an image of 16384x16384 pixels: expected at most 64000000"),
        (webp(8, 8, canvas=(1 << 24, 1 << 24)), "a WebP whose first frame of 8x8 pixels does not fill its 16777216x"),
        (webp(8, 8)[:25], "a cut chunk"),
        (b"RIFF\x04\0\0\0WEBP", "no picture"),
        (b"RIFF\x04\0\0\0WAVE", "unknown format"),
        (b"II*\0\x08\0\0\0" + bytes(40), "0x0 pixels"),
        (b"II*\0\xff\xff\xff\xff", "a broken directory"),
        (tiff(PAGE | {259: (7,)}), "a TIFF with compression 7: expected none, LZW, Deflate, PackBits; save it as PNG"),
        (tiff(PAGE | {262: (32803,)}), "colours by rule 32803: expected grey, RGB, CMYK or a palette"),
        (tiff(PAGE | {258: (32,)}), "1 samples of 32 bits"),
        (tiff(PAGE | {339: (3,)}), "whole numbers in one plane"),
        (tiff(PAGE | {278: (1,)}), "1 strips or tiles of 8"),
        (tiff(PAGE | {279: (1 << 20,)}), "cut"),
        (
            tiff(PAGE | {256: (60_000,), 257: (60_000,), 278: (60_000,)}),
            "an image of 60000x60000 pixels: expected at most 64000000",
        ),
        (tiff(TILED | {322: (60_000,), 323: (60_000,)}), "tiles of 60000x60000 are larger than its page"),
        (tiff(PAGE | {273: (60,) * 20_000}), "20000 values of type 4: expected 1 to 16384"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_headers_that_lie_are_refused_in_a_line(content: bytes, words: str) -> None:
    with pytest.raises(RequestError, match=words) as refusal:
        read_image(content)
    assert "\n" not in str(refusal.value)


def test_a_tiff_directory_reaches_the_decoder_without_what_it_does_not_need() -> None:
    """libtiff would read each of these: a thumbnail's directory, a JPEG's tables, a profile, a page that follows."""
    more = tiff(PAGE | {330: (8,), 347: (8, 8, 8), 34675: (8, 8), 274: (6,), 65000: (1,)})
    image = read_image(more)
    assert image.orientation == 6
    kept = Image.open(BytesIO(image.content))
    assert isinstance(kept, TiffImagePlugin.TiffImageFile)
    assert sorted(kept.tag_v2) == sorted(PAGE)


PEAK = """
import sys
from pathlib import Path
from deploy.runtime.preprocessing import choose_scale, decode_and_fit, decode_and_fit_image, read_image
from toolchain.records.tensors import Preprocessing
def memory(name):
    return next(int(line.split()[1]) << 10 for line in open("/proc/self/status") if line.startswith(name))
wanted = Preprocessing(224, 224, resize=256)
for path in sorted(Path(sys.argv[1]).iterdir()):
    image = read_image(path.read_bytes())
    decode_and_fit(Path(sys.argv[1], "0").read_bytes(), wanted)
    Path("/proc/self/clear_refs").write_text("5")
    before = memory("VmRSS")
    decode_and_fit_image(image, wanted)
    print(path.name, memory("VmHWM") - before, image.decoding_bytes(choose_scale(image, wanted)))
"""


def test_no_image_takes_more_memory_than_its_headers_tell(tmp_path: Path) -> None:
    """Of each mode that has its own branch, turned too: the peak of a process that decodes it."""
    (tmp_path / "0").write_bytes(png(300))
    exif = chunk(b"eXIf", ROTATED)
    for colours, depth in ((0, 1), (0, 8), (0, 16), (2, 8), (2, 16), (3, 8), (4, 8), (4, 16), (6, 8), (6, 16)):
        for name, more in (("", b""), (" turned", exif)):
            (tmp_path / f"PNG {colours} {depth}{name}").write_bytes(png(1600, depth, colours, before=more))
    photo, smooth = Image.effect_noise((1500, 1500), 30), Image.linear_gradient("L").resize((1500, 1500))
    for mode in ("L", "RGB", "CMYK"):
        for is_progressive in (False, True):
            content = encode(photo.convert(mode), "JPEG", progressive=is_progressive, subsampling=0)
            (tmp_path / f"JPEG {mode} {is_progressive}").write_bytes(content)
        for way in (None, "tiff_lzw", "packbits"):
            (tmp_path / f"TIFF {mode} {way}").write_bytes(encode(smooth.convert(mode), "TIFF", compression=way))
    for mode in ("L", "P", "RGB", "RGBA"):
        for kind, options in (
            ("BMP", {}),
            ("GIF", {}),
            ("WEBP", {"method": 0}),
            ("WEBP", {"method": 0, "lossless": True}),
        ):
            (tmp_path / f"{kind} {mode} {len(options)}").write_bytes(encode(smooth.convert(mode), kind, **options))
    done = subprocess.run([sys.executable, "-c", PEAK, tmp_path], capture_output=True, text=True, check=True)
    for line in done.stdout.splitlines():
        name, peak, estimate = line.rsplit(maxsplit=2)
        assert int(peak) <= int(estimate) * 1.1 + (2 << 20), line
    assert len(done.stdout.splitlines()) == 52

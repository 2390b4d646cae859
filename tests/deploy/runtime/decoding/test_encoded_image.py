"""Image files read by their headers: what pixels need is kept and nothing else, and costs are known beforehand."""

import subprocess
import sys
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from deploy.runtime.preprocessing import decode_and_fit, read_image
from tests.deploy.runtime.decoding.files import as_mpo, chunk, encode, many_scans, noise, png, segment
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
}


@pytest.mark.parametrize("name", GENUINE)
def test_genuine_files_mean_what_they_meant_to_pillow(name: str) -> None:
    assert np.array_equal(decode_and_fit(GENUINE[name], SIZED), by_pillow(GENUINE[name]))


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
    ],
)
def test_headers_that_lie_are_refused_in_a_line(content: bytes, words: str) -> None:
    with pytest.raises(RequestError, match=words) as refusal:
        read_image(content)
    assert "\n" not in str(refusal.value)


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
    photo = Image.effect_noise((1500, 1500), 30)
    for mode in ("L", "RGB", "CMYK"):
        for is_progressive in (False, True):
            content = encode(photo.convert(mode), "JPEG", progressive=is_progressive, subsampling=0)
            (tmp_path / f"JPEG {mode} {is_progressive}").write_bytes(content)
    done = subprocess.run([sys.executable, "-c", PEAK, tmp_path], capture_output=True, text=True, check=True)
    for line in done.stdout.splitlines():
        name, peak, estimate = line.rsplit(maxsplit=2)
        assert int(peak) <= int(estimate) * 1.1 + (2 << 20), line
    assert len(done.stdout.splitlines()) == 27

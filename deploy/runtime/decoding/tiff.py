"""A TIFF file's first directory -> EncodedImage: the first page, as its plain forms alone. Decodes nothing.

libtiff knows far more kinds of TIFF than cameras and scanners write, and has had a flaw in many of them. It gets a
directory of our own that holds only the entries of ORDINARY, all of them checked, and none that it does not need.
"""

from collections.abc import Mapping
from struct import calcsize, pack, unpack_from
from struct import error as StructError
from typing import NamedTuple

from deploy.runtime.decoding.encoded_image import EncodedImage, incomplete_image
from deploy.runtime.decoding.orientation import BYTE_ORDERS, ORIENTATION, UPRIGHT, VALUE_FORMATS
from toolchain.errors import RequestError

SIGNATURES = (b"II*\0", b"MM\0*")
WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, SAMPLES, ROWS = 256, 257, 258, 259, 262, 277, 278
STRIPS, STRIP_BYTES, PLANES, PREDICTOR, COLOURS = 273, 279, 284, 317, 320
TILE_WIDTH, TILE_HEIGHT, TILES, TILE_BYTES, EXTRA, SAMPLE_FORMAT = 322, 323, 324, 325, 338, 339
ORDINARY = {WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, STRIPS, SAMPLES, ROWS, STRIP_BYTES, PLANES, PREDICTOR}
ORDINARY |= {COLOURS, TILE_WIDTH, TILE_HEIGHT, TILES, TILE_BYTES, EXTRA}
SCALARS = ORDINARY - {BITS, STRIPS, STRIP_BYTES, COLOURS, TILES, TILE_BYTES, EXTRA}
MAX_ENTRIES, MAX_VALUES = 512, 16_384  # of a directory, of an entry: a strip for each row is usual
COMPRESSIONS = {1: "none", 5: "LZW", 8: "Deflate", 32946: "Deflate", 32773: "PackBits"}
# (how samples become colours, bits of each sample, what further samples are) -> bytes of memory for a pixel: with the
# copy that turns it into grey or RGB, and twice a strip or a tile as large as the page
PIXEL_BYTES: dict[tuple[int, tuple[int, ...], tuple[int, ...]], int] = {
    **{(photometric, (bits,), ()): 5 for photometric in (0, 1) for bits in (1, 4, 8)},
    (1, (16,), ()): 10,
    (1, (8, 8), (0,)): 8,
    (1, (8, 8), (2,)): 12,
    **{(3, (bits,), ()): 8 for bits in (1, 4, 8)},
    (2, (8, 8, 8), ()): 10,
    **{(2, (8,) * 4, extra): 16 for extra in ((), (0,), (1,), (2,))},
    (2, (16, 16, 16), ()): 16,
    (5, (8,) * 4, ()): 16,
    **{(2, (16,) * 4, extra): 24 for extra in ((), (0,), (1,), (2,))},
}
SPARE_PIXELS = 1 << 18  # by which tiles may exceed a small page


class Entry(NamedTuple):
    """content: its twelve bytes."""

    content: bytes
    values: tuple[int, ...]


class Page:
    """The entries of a directory that are needed, the first of each tag."""

    def __init__(self, entries: Mapping[int, Entry]) -> None:
        self._entries = entries

    def values(self, tag: int, default: tuple[int, ...] = ()) -> tuple[int, ...]:
        return self._entries[tag].values if tag in self._entries else default

    def value(self, tag: int, default: int = 0) -> int:
        return self.values(tag, (default,))[0]

    @property
    def bits(self) -> tuple[int, ...]:
        """Of each sample; a file may say it once for all of them."""
        bits, samples = self.values(BITS, (1,)), self.value(SAMPLES, 1)
        return bits * samples if len(bits) == 1 and samples <= 4 else bits

    def pack_directory(self, order: str) -> bytes:
        """The directory of these entries alone, the last one of its file."""
        entries = [self._entries[tag].content for tag in sorted(self._entries) if tag in ORDINARY]
        return b"".join([pack(f"{order}H", len(entries)), *entries, bytes(4)])


def read_tiff(content: bytes) -> EncodedImage:
    """RequestError where its first directory is broken, or says more than a plain page."""
    order = BYTE_ORDERS[content[:2]]
    try:
        page = Page(_read_entries(content, order))
    except StructError as error:
        raise incomplete_image("a broken directory", len(content)) from error
    width, height = page.value(WIDTH), page.value(HEIGHT)
    if not width or not height:
        raise incomplete_image(f"{width}x{height} pixels", len(content))
    pixel_bytes = _check_form(page)
    _check_parts(page, width, height, len(content))
    head = content[:4] + pack(f"{order}I", len(content) + len(content) % 2)
    kept = b"".join([head, memoryview(content)[8:], bytes(len(content) % 2), page.pack_directory(order)])
    return EncodedImage(kept, "TIFF", width, height, page.value(ORIENTATION, UPRIGHT), pixel_bytes)


def _read_entries(content: bytes, order: str) -> dict[int, Entry]:
    first = unpack_from(f"{order}I", content, 4)[0]
    count = unpack_from(f"{order}H", content, first)[0]
    if count > MAX_ENTRIES:
        raise RequestError(f"a TIFF directory of {count} entries: expected at most {MAX_ENTRIES}; save it as PNG")
    entries: dict[int, Entry] = {}
    for at in range(first + 2, first + 2 + 12 * count, 12):
        tag, kind, many = unpack_from(f"{order}HHI", content, at)
        if (tag in ORDINARY or tag in (SAMPLE_FORMAT, ORIENTATION)) and tag not in entries:
            entries[tag] = Entry(content[at : at + 12], _read_values(content, at + 8, order, kind, many))
            if tag in SCALARS and many != 1:
                raise incomplete_image(f"{many} values of tag {tag}", len(content))
    return entries


def _read_values(content: bytes, at: int, order: str, kind: int, many: int) -> tuple[int, ...]:
    """Where they take more than four bytes, they lie elsewhere."""
    if kind not in VALUE_FORMATS or not 0 < many <= MAX_VALUES:
        raise RequestError(f"a TIFF entry of {many} values of type {kind}: expected 1 to {MAX_VALUES} whole numbers")
    form = f"{order}{many}{VALUE_FORMATS[kind]}"
    place = at if calcsize(form) <= 4 else unpack_from(f"{order}I", content, at)[0]
    return unpack_from(form, content, place)


def _check_form(page: Page) -> int:
    """Bytes of memory for a pixel."""
    compression, photometric = page.value(COMPRESSION, 1), page.value(PHOTOMETRIC, -1)
    if compression not in COMPRESSIONS:
        names = ", ".join(dict.fromkeys(COMPRESSIONS.values()))
        raise RequestError(f"a TIFF with compression {compression}: expected {names}; save it as PNG")
    form = photometric, page.bits, page.values(EXTRA)
    is_plain = set(page.values(SAMPLE_FORMAT, (1,))) == {1} and page.value(PLANES, 1) == 1
    if form not in PIXEL_BYTES or len(page.bits) != page.value(SAMPLES, 1) or not is_plain:
        raise RequestError(
            f"a TIFF of {len(page.bits)} samples of {page.bits[0]} bits, colours by rule {photometric}: expected grey, "
            "RGB, CMYK or a palette, as whole numbers in one plane; save it as PNG"
        )
    if page.value(PREDICTOR, 1) not in (1, 2) or (photometric == 3 and len(page.values(COLOURS)) != 3 << page.bits[0]):
        raise RequestError("a TIFF with another predictor or palette than usual; save it as PNG")
    return PIXEL_BYTES[form]


def _check_parts(page: Page, width: int, height: int, size: int) -> None:
    """That its strips or tiles are as many as its size takes, within the file, and not much larger than the page."""
    is_tiled = bool(page.values(TILES))
    across, down = (page.value(TILE_WIDTH), page.value(TILE_HEIGHT)) if is_tiled else (width, page.value(ROWS, height))
    if not across or not down or (is_tiled and page.values(STRIPS)):
        raise incomplete_image("no strips or tiles", size)
    down = down if is_tiled else min(down, height)
    columns, rows = -(-width // across), -(-height // down)
    starts, sizes = (
        (page.values(TILES), page.values(TILE_BYTES))
        if is_tiled
        else (
            page.values(STRIPS),
            page.values(STRIP_BYTES),
        )
    )
    if len(starts) != columns * rows or len(sizes) != len(starts):
        raise incomplete_image(f"{len(starts)} strips or tiles of {columns * rows}", size)
    if any(start < 8 or start + many > size for start, many in zip(starts, sizes, strict=True)):
        raise incomplete_image("cut", size)
    if is_tiled and columns * across * rows * down > 2 * width * height + SPARE_PIXELS:
        raise RequestError(f"a TIFF whose tiles of {across}x{down} are larger than its page; save it as PNG")

"""What an image file is, read from its headers: the facts that tell its cost before a pixel is decoded.

Only the parts that pixels need are kept. Comments, colour profiles, EXIF blocks and further pictures (MPO, APNG, pages,
frames) never reach the decoder, which would decompress or parse each of them.
"""

from typing import Literal, NamedTuple

from toolchain.errors import RequestError

# An image is refused by its header, before its pixels are decoded: a PNG of 200 kB can hold gigabytes.
MAX_BYTES = 32 << 20
MAX_PIXELS = 64_000_000
# A JPEG of a few kB can make the decoder pass over its pixels thousands of times; real files have about ten scans.
MAX_SCANS = 200
MAX_SCANNED_PIXELS = 1_000_000_000
COEFFICIENT_BYTES = 2
ImageFormat = Literal["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"]
TAKEN = "JPEG, PNG, WebP, GIF, BMP or TIFF"
TURNED, TURNED_BYTES = range(2, 9), 8  # orientations that need a second copy of the pixels, and both for a pixel


class EncodedImage(NamedTuple):
    """content: a complete file, without what its pixels do not need. pixel_bytes: memory for each decoded pixel, at the
    worst moment. components: of a JPEG that is kept as coefficients until all its scans are read; else 0."""

    content: bytes
    format: ImageFormat
    width: int
    height: int
    orientation: int
    pixel_bytes: int
    scans: int = 1
    components: int = 0

    @property
    def pixels(self) -> int:
        return self.width * self.height

    @property
    def upright_size(self) -> tuple[int, int]:
        """Width and height after the orientation was applied."""
        is_on_its_side = self.orientation >= 5 and self.orientation in TURNED
        return (self.height, self.width) if is_on_its_side else (self.width, self.height)

    def decoding_bytes(self, scale: int = 1) -> int:
        """Memory to decode it to 1/scale of its size, its file included."""
        pixel_bytes = max(self.pixel_bytes, TURNED_BYTES if self.orientation in TURNED else 0)
        coefficient_bytes = self.pixels * self.components * COEFFICIENT_BYTES
        return self.pixels // scale**2 * pixel_bytes + coefficient_bytes + 2 * len(self.content)


def check_size(image: EncodedImage) -> None:
    """RequestError for an image that no decoder here should see."""
    if image.pixels > MAX_PIXELS:
        raise RequestError(
            f"an image of {image.width}x{image.height} pixels: expected at most {MAX_PIXELS}; send a smaller one"
        )
    if image.scans > MAX_SCANS:
        raise RequestError(
            f"a JPEG of {image.scans} scans: expected at most {MAX_SCANS}; save it again as baseline JPEG"
        )
    if image.scans * image.pixels > MAX_SCANNED_PIXELS:
        raise RequestError(
            f"a JPEG of {image.scans} scans of {image.width}x{image.height} pixels: expected at most "
            f"{MAX_SCANNED_PIXELS} pixels in all scans; save it again as baseline JPEG"
        )


def incomplete_image(reason: str, size_bytes: int) -> RequestError:
    return RequestError(f"not a complete {TAKEN} image ({reason}); got {size_bytes} bytes")

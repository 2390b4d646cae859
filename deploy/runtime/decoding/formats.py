"""Which image files are taken, told by their first bytes: a name or a Content-Type may say anything."""

from collections.abc import Callable

from deploy.runtime.decoding import bmp, gif, jpeg, png, tiff, webp
from deploy.runtime.decoding.encoded_image import EncodedImage, ImageFormat

SIGNATURE_BYTES = 12  # that image_format() needs
SIGNATURES: dict[bytes, ImageFormat] = {
    jpeg.SIGNATURE: "JPEG",
    png.SIGNATURE: "PNG",
    bmp.SIGNATURE: "BMP",
    **dict.fromkeys(gif.SIGNATURES, "GIF"),
    **dict.fromkeys(tiff.SIGNATURES, "TIFF"),
}
READERS: dict[ImageFormat, Callable[[bytes], EncodedImage]] = {
    "JPEG": jpeg.read_jpeg,
    "PNG": png.read_png,
    "WEBP": webp.read_webp,
    "GIF": gif.read_gif,
    "BMP": bmp.read_bmp,
    "TIFF": tiff.read_tiff,
}


def image_format(start: bytes) -> ImageFormat | None:
    """Of a file by its first SIGNATURE_BYTES; None: no image that is taken here."""
    if start.startswith(webp.SIGNATURE):
        return "WEBP" if start[8:12] == webp.KIND else None
    return next((name for signature, name in SIGNATURES.items() if start.startswith(signature)), None)

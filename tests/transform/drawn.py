"""Real images' stand-ins: a few of varied sizes, the same each time."""

from PIL import Image

from toolchain.transform.search import draw_image

SIZES = ((61, 90), (97, 70), (83, 83), (120, 75), (54, 131))
IMAGES: list[Image.Image] = [draw_image(size) for size in SIZES]

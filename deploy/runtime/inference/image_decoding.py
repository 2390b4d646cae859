"""The images of a request -> its input array, one image after the other, each bounded in memory and in time.

What is refused, and why there is a bound at all: docs/decisions/0017. Knows no protocol and starts no threads.
"""

import time
from collections.abc import Callable, Sequence

import numpy as np

from deploy.runtime.decoding.encoded_image import EncodedImage
from deploy.runtime.preprocessing import choose_scale, decode_and_fit_image, read_image, resampling_bytes
from toolchain.errors import RequestError
from toolchain.records.tensors import Array, Preprocessing

MAX_TIMES_NEEDED = 100  # on a side: more would only be thrown away by the model
SMALL_PIXELS = 500_000  # of all images of a request, in all scans or as resized: about 7 ms of a core
MAX_DECODING_S = 2.0  # of a core, for one image
HEADERS_S = 0.002  # of a core: headers that are read in a turn; those of one image may take longer


class ImageDecoding:
    """step() until it returns False, then `array` is complete. Its memory is for the caller to reserve: array_bytes for
    as long as the array is kept, next_bytes during step(). is_large: whether it takes long, known after the first step.
    """

    def __init__(self, contents: Sequence[bytes], preprocessing: Preprocessing, max_bytes: int) -> None:
        self._contents, self._preprocessing, self._max_bytes = contents, preprocessing, max_bytes
        self.array_bytes = len(contents) * int(np.prod(preprocessing.shape))
        self.is_large = False
        self._images: list[EncodedImage] = []
        self._done = 0
        self._array: Array | None = None

    def step(self, check: Callable[[], None]) -> bool:
        """Read some headers or, once all are read, decode an image; whether there is more to do. check: called now and
        then, ends it by raising. RequestError for what is no image, or broken, or takes too long, and for an image that
        is larger than the model can use, or than max_bytes once decoded."""
        if self._contents:
            self._read_headers()
            return True
        image = self._images[self._done]
        watch = _watch_time(image, check) if self.is_large else None
        self.array[self._done] = decode_and_fit_image(image, self._preprocessing, watch)
        self._done += 1
        return self._done < len(self._images)

    def _read_headers(self) -> None:
        began = time.thread_time()
        for content in self._contents[len(self._images) :]:
            image = read_image(content)
            self._check_image(image)
            self._images.append(image)
            if time.thread_time() - began > HEADERS_S:
                break
        if len(self._images) == len(self._contents):
            self._contents = ()  # what decoding needs of them is a copy
        self.is_large = bool(self._contents) or self._pixels() > SMALL_PIXELS

    def _pixels(self) -> int:
        """As read or, beside the first image, as resized: 256 images of a pixel take a quarter of a second too."""
        resized = self._preprocessing.height * self._preprocessing.width
        first, *others = (image.pixels * image.scans for image in self._images)
        return first + sum(max(resized, pixels) for pixels in others)

    @property
    def next_bytes(self) -> int:
        return 0 if self._contents else self._decoding_bytes(self._images[self._done])

    @property
    def array(self) -> Array:
        if self._array is None:
            self._array = np.empty((len(self._images), *self._preprocessing.shape), np.uint8)
        return self._array

    def _check_image(self, image: EncodedImage) -> None:
        wanted, scale = self._preprocessing, choose_scale(image, self._preprocessing)
        side = MAX_TIMES_NEEDED * wanted.longest_side
        if max(image.width, image.height) > side * scale:
            raise RequestError(
                f"an image of {image.width}x{image.height} pixels: expected at most {side * scale} on a side, "
                f"{MAX_TIMES_NEEDED} times what this model uses; send a smaller one"
            )
        if (needed := self._decoding_bytes(image)) > self._max_bytes:
            raise RequestError(
                f"an image of {image.width}x{image.height} pixels takes {needed >> 20} MB to decode: expected at most "
                f"{self._max_bytes >> 20} MB, by this container's memory limit; send a smaller one"
            )

    def _decoding_bytes(self, image: EncodedImage) -> int:
        scale = choose_scale(image, self._preprocessing)
        return image.decoding_bytes(scale) + resampling_bytes(image, self._preprocessing)


def _watch_time(image: EncodedImage, check: Callable[[], None]) -> Callable[[], None]:
    """`check`, and RequestError once this thread has computed for too long since now."""
    began = time.thread_time()

    def watch() -> None:
        if time.thread_time() - began > MAX_DECODING_S:
            raise RequestError(
                f"an image of {image.width}x{image.height} pixels takes longer than {MAX_DECODING_S:g} s to decode; "
                "send a smaller one, or save it again as baseline JPEG"
            )
        check()

    return watch

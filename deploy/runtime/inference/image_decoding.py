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
SMALL_PIXELS = 500_000  # of all images of a request, in all scans: about 7 ms of a core
MAX_DECODING_S = 2.0  # of a core, for one image


class ImageDecoding:
    """decode_next() until it returns False, then `array` is complete. Its memory is for the caller to reserve:
    array_bytes for as long as the array is kept, next_bytes during decode_next()."""

    def __init__(self, contents: Sequence[bytes], preprocessing: Preprocessing, max_bytes: int) -> None:
        """RequestError for what is no image, and for an image that is larger than the model can use, or than max_bytes
        once decoded."""
        self._preprocessing = preprocessing
        self._images = [read_image(content) for content in contents]
        for image in self._images:
            self._check_image(image, max_bytes)
        self.is_large = sum(image.pixels * image.scans for image in self._images) > SMALL_PIXELS
        self._done = 0
        self._array: Array | None = None

    @property
    def array_bytes(self) -> int:
        return len(self._images) * int(np.prod(self._preprocessing.shape))

    @property
    def next_bytes(self) -> int:
        return self._decoding_bytes(self._images[self._done])

    @property
    def array(self) -> Array:
        if self._array is None:
            self._array = np.empty((len(self._images), *self._preprocessing.shape), np.uint8)
        return self._array

    def decode_next(self, check: Callable[[], None]) -> bool:
        """Decode an image; whether there are more. check: called now and then, ends it by raising; RequestError for a
        broken image, and for one that takes too long."""
        image = self._images[self._done]
        watch = _watch_time(image, check) if self.is_large else None
        self.array[self._done] = decode_and_fit_image(image, self._preprocessing, watch)
        self._done += 1
        return self._done < len(self._images)

    def _check_image(self, image: EncodedImage, max_bytes: int) -> None:
        wanted, scale = self._preprocessing, choose_scale(image, self._preprocessing)
        side = MAX_TIMES_NEEDED * wanted.longest_side
        if max(image.width, image.height) > side * scale:
            raise RequestError(
                f"an image of {image.width}x{image.height} pixels: expected at most {side * scale} on a side, "
                f"{MAX_TIMES_NEEDED} times what this model uses; send a smaller one"
            )
        if (needed := self._decoding_bytes(image)) > max_bytes:
            raise RequestError(
                f"an image of {image.width}x{image.height} pixels takes {needed >> 20} MB to decode: expected at most "
                f"{max_bytes >> 20} MB, by this container's memory limit; send a smaller one"
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

"""The images of a request: which are refused before and while they are decoded, and that large JPEGs are reduced."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from deploy.runtime.inference import image_decoding
from deploy.runtime.inference.image_decoding import ImageDecoding
from deploy.runtime.preprocessing import choose_scale, decode_and_fit, fit_image, read_image
from tests.deploy.runtime.decoding.files import encode, noise, png
from toolchain.errors import RequestError
from toolchain.records.tensors import Array, Preprocessing

CIFAR, IMAGENET = Preprocessing(32, 32), Preprocessing(224, 224, resize=256)
MB = 1 << 20


def decode(contents: list[bytes], wanted: Preprocessing = CIFAR, max_bytes: int = 512 * MB) -> Array:
    decoding = ImageDecoding(contents, wanted, max_bytes)
    while decoding.step(lambda: None):
        pass
    return decoding.array


def test_the_images_of_a_request_become_one_array_in_their_order() -> None:
    contents = [encode(noise(20 + number, 30), "PNG") for number in range(3)]
    assert np.array_equal(decode(contents), np.stack([decode_and_fit(content, CIFAR) for content in contents]))


def test_an_image_a_hundred_times_larger_than_the_model_uses_is_refused() -> None:
    assert decode([encode(Image.new("1", (3200, 3200)), "PNG")]).shape == (1, 32, 32, 3)
    with pytest.raises(
        RequestError,
        match=r"^an image of 3201x9 pixels: expected at most 3200 on a side, 100 times what this model uses; send ",
    ):
        decode([encode(Image.new("L", (3201, 9)), "PNG")])
    assert decode([encode(Image.new("L", (3201, 9)), "PNG")], IMAGENET).shape == (1, 224, 224, 3)


def test_a_cameras_jpeg_is_taken_by_the_smallest_model() -> None:
    """Its decoder reduces it: what counts is what has to be held."""
    photo = encode(Image.effect_noise((4032, 3024), 30).convert("RGB"), "JPEG")
    assert choose_scale(read_image(photo), CIFAR) == 8
    assert decode([photo], CIFAR, 24 * MB).shape == (1, 32, 32, 3)


def test_reduced_jpegs_are_within_a_rounding_of_the_whole_and_usual_ones_are_decoded_whole() -> None:
    blurred = Image.effect_noise((100, 75), 90).resize((4000, 3000), Image.Resampling.BICUBIC).convert("RGB")
    photo = encode(blurred, "JPEG", quality=90)
    whole = Image.open(BytesIO(photo))
    for wanted in (IMAGENET, CIFAR):
        assert choose_scale(read_image(photo), wanted) in (2, 8)
        distance = np.abs(decode_and_fit(photo, wanted).astype(int) - fit_image(whole, wanted))
        assert distance.mean() < 0.3 and distance.max() <= 4
    assert choose_scale(read_image(encode(Image.new("L", (2000, 2000)), "JPEG")), CIFAR) == 1


def test_what_this_container_cannot_hold_is_refused_by_its_header() -> None:
    with pytest.raises(
        RequestError,
        match=r"^an image of 8000x8000 pixels takes 244 MB to decode: expected at most 200 MB, by this container's mem",
    ):
        decode([png(8000)], IMAGENET, 200 * MB)


def test_an_image_that_takes_longer_than_its_share_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_decoding, "MAX_DECODING_S", 0.005)
    with pytest.raises(RequestError, match=r"^an image of 3000x3000 pixels takes longer than 0.005 s to decode; send"):
        decode([png(3000)])


def test_decoding_ends_when_its_caller_says_so() -> None:
    class Ended(Exception):
        pass

    def end() -> None:
        raise Ended

    decoding = ImageDecoding([png(3000)], CIFAR, 512 * MB)
    assert decoding.step(end)
    with pytest.raises(Ended):
        decoding.step(end)


def is_large(contents: list[bytes], wanted: Preprocessing) -> bool:
    decoding = ImageDecoding(contents, wanted, MB)
    decoding.step(lambda: None)
    return decoding.is_large


def test_many_small_images_count_as_a_large_one() -> None:
    small = encode(noise(200, 200), "JPEG")
    assert not is_large([small], CIFAR)
    assert is_large([small] * 26, CIFAR)


def test_many_images_of_a_pixel_count_as_what_they_are_resized_to() -> None:
    assert is_large([png(1)] * 20, IMAGENET)
    assert not is_large([png(1)] * 20, CIFAR)
    assert not is_large([png(1)], Preprocessing(1024, 1024))


def test_headers_are_read_in_turns_and_what_takes_more_than_one_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_decoding, "HEADERS_S", 0.0)
    contents = [encode(noise(20 + number, 30), "PNG") for number in range(3)]
    decoding, steps, large = ImageDecoding(contents, CIFAR, MB), 1, list[bool]()
    while decoding.step(lambda: None):
        steps += 1
        large.append(decoding.is_large)
    assert steps == 3 + 3
    assert large[:3] == [True, True, False]
    assert np.array_equal(decoding.array, np.stack([decode_and_fit(content, CIFAR) for content in contents]))


def test_headers_that_are_still_to_be_read_take_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_decoding, "HEADERS_S", 0.0)
    decoding = ImageDecoding([png(64)] * 2, CIFAR, MB)
    assert decoding.array_bytes == 2 * 32 * 32 * 3
    needed = []
    for _ in range(2):
        needed.append(decoding.next_bytes)
        decoding.step(lambda: None)
    assert needed == [0, 0] and decoding.next_bytes > 0

"""Images as Python has them, as requests."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from toolchain.api.inputs import MOST_BYTES, encode_pictures, split_pictures
from toolchain.errors import RequestError, UsageError

SIZE = (8, 8, 3)
PIXELS = np.arange(192, dtype=np.uint8).reshape(SIZE)


def files_of(content: bytes) -> list[bytes]:
    found = []
    while content:
        end = 4 + int.from_bytes(content[:4], "little")
        found.append(content[4:end])
        content = content[end:]
    return found


def test_pixels_of_the_models_size_are_sent_as_they_are_and_together() -> None:
    (payload,) = encode_pictures([PIXELS, PIXELS], SIZE, 32)
    assert (payload.datatype, payload.shape) == ("UINT8", (2, *SIZE))
    assert payload.content == 2 * PIXELS.tobytes()


@pytest.mark.parametrize("shape", [(9, 5, 3), (9, 5, 1), (9, 5), (9, 5, 4)])
def test_pixels_of_another_size_are_sent_as_a_file_without_loss(shape: tuple[int, ...]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    (payload,) = encode_pictures([pixels], SIZE, 32)
    assert (payload.datatype, payload.shape) == ("BYTES", (1,))
    (file,) = files_of(payload.content)
    assert np.array_equal(np.asarray(Image.open(BytesIO(file))), pixels.squeeze())


def test_a_path_a_files_bytes_and_pillows_image_are_files(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(PIXELS).save(path)
    (payload,) = encode_pictures([path, str(path), path.read_bytes(), Image.open(path)], SIZE, 32)
    files = files_of(payload.content)
    assert files[:3] == 3 * [path.read_bytes()]
    assert np.array_equal(np.asarray(Image.open(BytesIO(files[3]))), PIXELS)


def test_floats_are_taken_as_normalized() -> None:
    (payload,) = encode_pictures([np.zeros((3, 8, 8))], SIZE, 32)
    assert (payload.datatype, payload.shape, len(payload.content)) == ("FP32", (1, 3, 8, 8), 768)


def test_requests_hold_no_more_images_than_the_server_takes_and_keep_their_order() -> None:
    large = b"x" * (MOST_BYTES // 2 + 1)
    given = [PIXELS, PIXELS, PIXELS, b"a", b"b", large, large, PIXELS]
    sent = [(payload.datatype, payload.shape[0]) for payload in encode_pictures(given, SIZE, 2)]
    assert sent == [("UINT8", 2), ("UINT8", 1), ("BYTES", 2), ("BYTES", 1), ("BYTES", 1), ("UINT8", 1)]


@pytest.mark.parametrize(
    "given", [3, None, np.zeros((8, 8, 3), np.int32), np.zeros(8, np.uint8), [np.zeros((2, 8, 8, 3), np.uint8)]]
)
def test_what_is_no_image_is_refused_with_what_is(given: object) -> None:
    with pytest.raises(RequestError, match=r"^an image is .*; expected a path, a file's bytes, a PIL image"):
        list(encode_pictures(split_pictures(given)[0], SIZE, 32))


def test_a_file_that_cannot_be_read_is_named() -> None:
    with pytest.raises(UsageError, match=r"^no\.png: no image can be read there \(No such file"):
        list(encode_pictures(["no.png"], SIZE, 32))


def test_a_list_and_an_array_of_four_axes_are_several() -> None:
    assert split_pictures([b"a"]) == ([b"a"], True)
    assert split_pictures("a.png") == (["a.png"], False)
    assert [one.shape for one in split_pictures(np.zeros((2, *SIZE)))[0]] == 2 * [SIZE]

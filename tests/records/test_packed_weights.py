"""Packed model files: lossless, at the smallest width; a broken file is refused in one line."""

import numpy as np
import pytest

from toolchain.errors import RecordError
from toolchain.records.packed_weights import pack, stored_bits, unpack

TEXT = b"<net>" + b"<layer/>" * 1000 + b"</net>"


def constants(*parts: np.ndarray) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """One array of bytes with a float between the parts, and the (offset, size) of each part."""
    whole, places = [np.frombuffer(np.float32(1.5).tobytes(), np.uint8)], []
    for part in parts:
        places.append((sum(map(len, whole)), len(part)))
        whole += [part.astype(np.int8).view(np.uint8), np.frombuffer(np.float32(2.5).tobytes(), np.uint8)]
    return np.concatenate(whole), places


def random(low: int, high: int, count: int, zeros: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(3)
    return np.where(rng.random(count) < zeros, 0, rng.integers(low, high + 1, count))


@pytest.mark.parametrize("entropy", [False, True])
def test_unpacking_restores_every_byte(entropy):
    kinds = (
        random(-128, 127, 5000),
        random(-8, 7, 1001),
        random(-2, 1, 777),
        2 * random(0, 1, 333) - 1,
        random(-8, 7, 4099, zeros=0.9),
        random(-128, 127, 4099, zeros=0.9),
        np.zeros(100, int),
        random(0, 3, 5),
    )
    whole, places = constants(*kinds)
    restored = unpack(pack(TEXT, whole, places, entropy), "a file")
    assert restored.text == TEXT
    np.testing.assert_array_equal(restored.constants, whole)


@pytest.mark.parametrize(("low", "high", "bits"), [(-8, 7, 4), (-2, 1, 2), (0, 1, 1), (-128, 127, 8)])
def test_integers_use_the_bits_that_their_values_need(low, high, bits):
    whole, places = constants(random(low, high, 80_000))
    content = pack(TEXT, whole, places, entropy=False)
    assert stored_bits(content) == bits
    assert len(content) == pytest.approx(80_000 * bits / 8, abs=500)


def test_where_most_values_are_zero_only_the_others_are_stored():
    whole, places = constants(random(-8, 7, 80_000, zeros=0.9))
    dense = 80_000 * 4 / 8
    assert len(pack(TEXT, whole, places, entropy=False)) < 0.45 * dense
    assert len(pack(TEXT, whole, places, entropy=True)) < 0.27 * dense  # entropy: 0.47 + 0.1 x 4 of 4 bits


def test_the_same_input_gives_the_same_bytes():
    whole, places = constants(random(-8, 7, 1000))
    assert pack(TEXT, whole, places, True) == pack(TEXT, whole, reversed(places), True)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda content: b"PK" + content, "not a packed model"),
        (lambda content: content[:-9], "cannot be unpacked"),
        (lambda content: content[:11], "cannot be unpacked"),
        (lambda content: content[:400] + b"\0\0" + content[402:], "cannot be unpacked"),
    ],
)
def test_a_broken_file_is_refused_in_one_line(damage, words):
    whole, places = constants(random(-8, 7, 1000))
    with pytest.raises(RecordError, match=f"^net.packed: .*{words}.*; build it again$") as caught:
        unpack(damage(pack(TEXT, whole, places, True)), "net.packed")
    assert "\n" not in str(caught.value)

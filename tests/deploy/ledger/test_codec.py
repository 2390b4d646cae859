from zlib import compress, error

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some

from deploy.ledger.codec import MARK, pack, unpack

Nested = dict[str, tuple[tuple[float, ...], ...]]


@given(some.dictionaries(some.text(max_size=3), some.lists(some.lists(some.floats(allow_nan=False)))))
def test_every_number_comes_back_exactly(value: dict[str, list[list[float]]]) -> None:
    wanted = {key: tuple(map(tuple, rows)) for key, rows in value.items()}
    assert unpack(pack(wanted), Nested) == wanted


@given(some.lists(some.integers(0, 2**53 - 1), min_size=1))
def test_nanoseconds_come_back_exactly_as_milliseconds(ns: list[int]) -> None:
    wanted = {"a": (tuple(n / 1e6 for n in ns),)}
    assert unpack(pack(wanted), Nested) == wanted


def test_a_measured_latency_takes_less_than_three_bytes() -> None:
    ns = np.random.default_rng(0).lognormal(np.log(374_000), 0.05, 10_000).astype(np.int64)
    content = pack({"a": (tuple(n / 1e6 for n in ns.tolist()),)})
    assert len(content) < 3 * len(ns)


def test_records_of_the_first_release_are_still_read() -> None:
    wanted: Nested = {"a": ((1.5, 2.25), ())}
    assert unpack(compress(msgspec.msgpack.encode(wanted)), Nested) == wanted


def test_foreign_bytes_are_an_error() -> None:
    for content in (b"\x00", MARK, MARK + b"\xc1", pack({"a": ((1.0,),)})[:-3]):
        with pytest.raises((error, msgspec.MsgspecError, ValueError)):
            unpack(content, Nested)

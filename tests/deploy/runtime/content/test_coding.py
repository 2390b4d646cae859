"""Compressed content: read in steps, counted as it comes out, and refused beyond its bound."""

import gzip
import zlib

import pytest

from deploy.runtime.content.coding import (
    STEP_BYTES,
    Inflater,
    UnpackedTooLarge,
    UnsupportedCoding,
    accepted_coding,
    content_coding,
    pack_reply,
)
from deploy.runtime.scheduling.errors import Unavailable
from deploy.runtime.scheduling.memory_budget import MemoryBudget
from toolchain.errors import RequestError

PLAIN = bytes(range(256)) * 9000  # 2.3 MB: three steps


def bare(content: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(content) + packer.flush()


def unpack(packed: bytes, coding: str, max_bytes: int = 1 << 30, budget: MemoryBudget | None = None) -> bytes:
    inflater = Inflater(memoryview(packed), coding, max_bytes, (budget or MemoryBudget(1 << 30)).reserve(0), 2)
    while not inflater.step():
        pass
    return bytes(inflater.content)


@pytest.mark.parametrize("content", [PLAIN, b"", b"{}", bytes(STEP_BYTES)])
def test_both_codings_are_read_and_deflate_without_its_header_too(content: bytes) -> None:
    assert unpack(gzip.compress(content), "gzip") == content
    assert unpack(zlib.compress(content), "deflate") == content
    assert unpack(bare(content), "deflate") == content


def test_others_get_their_turn_after_each_megabyte() -> None:
    inflater = Inflater(memoryview(gzip.compress(PLAIN)), "gzip", 1 << 30, MemoryBudget().reserve(0))
    assert [inflater.step() for _ in range(3)] == [False, False, True]


def test_what_comes_out_is_held_in_the_budget_before_more_does() -> None:
    budget = MemoryBudget(8 << 20)
    bomb = zlib.compress(bytes(64 << 20), 9)
    with pytest.raises(Unavailable, match="would hold"):
        unpack(bomb, "deflate", budget=budget)
    assert 7 << 20 < budget.held_bytes <= 8 << 20
    with pytest.raises(UnpackedTooLarge, match=r"^expected at most 1048576 bytes once unpacked, got more; send less$"):
        unpack(bomb, "deflate", 1 << 20)


@pytest.mark.parametrize(
    ("packed", "words"),
    [
        (b"", "the body's gzip ends too early"),
        (gzip.compress(PLAIN)[:-9], "the body's gzip ends too early"),
        (b"no gzip at all", "the body is not gzip: "),
        (gzip.compress(PLAIN) + b"xy", "2 bytes follow the end of the body's gzip"),
        (gzip.compress(b"x") * 2, "bytes follow the end of the body's gzip"),
    ],
)
def test_broken_content_is_refused_in_a_line(packed: bytes, words: str) -> None:
    with pytest.raises(RequestError, match=words) as refusal:
        unpack(packed, "gzip")
    assert "\n" not in str(refusal.value)


def test_a_coding_is_named_as_http_has_it() -> None:
    found = {name: content_coding(name) for name in (b"gzip", b" X-GZIP", b"deflate", b"identity", b"")}
    assert list(found.values()) == ["gzip", "gzip", "deflate", "", ""]
    for name in (b"br", b"zstd", b"gzip, gzip", b"x" * 999):
        with pytest.raises(UnsupportedCoding, match=r"expected gzip, deflate, or the body as it is$"):
            content_coding(name)


def test_a_reply_is_compressed_as_its_client_accepts() -> None:
    for header, coding in (
        (b"gzip", "gzip"),
        (b"deflate, gzip;q=0.5", "gzip"),
        (b"deflate", "deflate"),
        (b"gzip;q=0, deflate;q=0.0", ""),
        (b"br, *", ""),
        (b"", ""),
    ):
        assert accepted_coding(header) == coding, header
    assert gzip.decompress(pack_reply(PLAIN, "gzip")) == zlib.decompress(pack_reply(PLAIN, "deflate")) == PLAIN
